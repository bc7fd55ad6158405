"""Where a problem becomes a kernel: chosen, rendered, compiled and launched once a process.

Everything that runs a kernel goes through here: the cache, the tuner, verification, benchmarks.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from threading import RLock
from typing import TYPE_CHECKING

from tqgen_kernels import backends
from tqgen_kernels.backends.compiled import Compiled
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import AttendProblem, Problem, family_of, format_problem
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.select import Choice
from tqgen_kernels.tuning.record.buckets import bucketed
from tqgen_kernels.tuning.search.runner import InvalidVariant

if TYPE_CHECKING:
    from tqgen_kernels.tuning.database.snapshot import Snapshot

SMALL = 256  # tokens of the launch that shows whether a variant works on this device

AUTOTUNE = ("load", "off", "missing")
MISSING_SECONDS = 20.0

_lock = RLock()
_launchers: dict[tuple[str, str], backends.Launcher] = {}
_kernels: dict[tuple[str, Problem], Kernel] = {}
_verified: set[tuple[str, str]] = set()
_leader: Snapshot | None = None


@dataclass(frozen=True)
class Kernel:
    """What runs for a problem. compiled None: the portable path, plain MLX operations."""

    problem: Problem
    compiled: Compiled | None
    choice: Choice


class KernelWarning(UserWarning):
    """A chosen variant could not be used; the next one in line runs instead."""


def compile(problem: Problem, config: Config, backend: str) -> Compiled:
    """The variant that `config` names, built by `backend` once a process and source.

    Raises InvalidVariant: "constraints" for a config outside the space, "compile" where the
    backend refuses the text.
    """
    try:
        variant = render(problem, config)
    except ValueError as error:
        raise InvalidVariant("constraints", str(error)) from None
    key = (backend, variant.sha256)
    with _lock:
        if key not in _launchers:
            try:
                _launchers[key] = backends.load(backend).build(variant)
            except (RuntimeError, ValueError) as error:
                raise InvalidVariant("compile", str(error)) from error
        return Compiled(variant, backend, _launchers[key])


def verify(compiled: Compiled, tokens: int = SMALL, seed: int = 0) -> Verification:
    """Launches once and compares with the float64 reference.

    Raises InvalidVariant: "compile", "launch" or "timeout" where the device refuses the variant or
    does not finish it, "correctness" where the result is wrong.
    """
    try:
        found = compiled.verify(seed, tokens)
    except (RuntimeError, ValueError) as error:
        raise failure(error) from error
    if not found.passed:
        detail = f"error {found.error:.3g}, allowed {found.tolerance:.3g} ({found.measure})"
        raise InvalidVariant("correctness", detail)
    return found


# How MLX begins when the compiler of Metal or of CUDA refuses a text, which it first sees at the
# launch.
_REFUSALS = ("[metal::Device] Unable to build metal library", "Failed to compile kernel")


def failure(error: Exception) -> InvalidVariant:
    """What an error of a launch says about the variant."""
    from tqgen_kernels.emulator.faults import MetalCompileError, MetalFault

    text = str(error)
    if isinstance(error, MetalFault) and any(f.kind == "hang" for f in error.findings):
        return InvalidVariant("timeout", text)
    if isinstance(error, MetalCompileError) or any(words in text for words in _REFUSALS):
        return InvalidVariant("compile", text)
    return InvalidVariant("launch", text)


def kernel(problem: Problem) -> Kernel:
    """The kernel of a problem in its bucket, chosen once a process.

    A variant that does not build, launch or verify on this device gives way to the declared
    default, and that one to the portable path; each step is one warning.
    """
    backend = backends.default_name()
    key = (backend, bucketed(problem))
    found = _kernels.get(key)
    if found is None:
        with _lock:
            found = _kernels.get(key) or _choose(*key)
            _kernels[key] = found
    return found


def forget() -> None:
    """Forgets every choice, so that new tuning records are seen. Compiled kernels stay."""
    with _lock:
        _kernels.clear()


def _choose(backend: str, problem: Problem) -> Kernel:
    if backend == backends.PORTABLE:
        detail = "this device has no kernel backend: plain MLX operations"
        return Kernel(problem, None, Choice(None, "mlx", detail, road="mlx"))
    for choice in (choose(_tuned_as(problem), backend), _default(problem)):
        if choice.config is None:
            return Kernel(problem, None, choice)
        try:
            compiled = compile(problem, choice.config, backend)
            text = (backend, compiled.variant.sha256)
            if text not in _verified:  # once a process: a larger context has the same text
                verify(compiled)
                _verified.add(text)
            return Kernel(problem, compiled, choice)
        except InvalidVariant as error:
            warnings.warn(
                f"{format_problem(problem)}: the {choice.origin} variant ({choice.config}) is not "
                f"used: {error}",
                KernelWarning,
                stacklevel=2,
            )
    detail = "no variant of ours runs on this device: plain MLX operations"
    return Kernel(problem, None, Choice(None, "mlx", detail, road="mlx"))


def _tuned_as(problem: Problem) -> Problem:
    """Whose tuning record decides: fresh tokens are a few bytes more, and nothing to choose by."""
    return replace(problem, fresh=False) if isinstance(problem, AttendProblem) else problem


def _default(problem: Problem) -> Choice:
    default = FAMILIES[family_of(problem)].without_record(problem)
    if isinstance(default, str):
        return Choice(None, "default", "the declared road", road=default)
    return Choice(default, "default", "the declared default")


def choose(problem: Problem, backend: str) -> Choice:
    """What the tuning records say; the declared default where they say nothing.

    TQGEN_AUTOTUNE: "load" (the default) reads records, "off" does not, "missing" tunes a problem
    that has no record of its own on the spot, for at most MISSING_SECONDS. Raises ValueError for
    another value. A process that follows another one chooses as that one would, and never tunes.
    """
    if _leader is not None and _leader.environment.backend == backend:
        return _led(problem, _leader)
    mode = _mode()
    if mode == "off":
        return _default(problem)
    choice = _recorded(problem, backend)
    if mode == "missing" and choice.origin != "exact record":
        from tqgen_kernels.autotuning import autotune

        autotune([problem], seconds=MISSING_SECONDS, quick=True, backend=backend)
        choice = _recorded(problem, backend)
    return choice


def _mode() -> str:
    mode = os.environ.get("TQGEN_AUTOTUNE") or "load"
    if mode not in AUTOTUNE:
        raise ValueError(f"TQGEN_AUTOTUNE={mode!r} is unknown: use one of {', '.join(AUTOTUNE)}.")
    return mode


def snapshot(storage: str) -> Snapshot:
    """What this process chooses by, for others to `follow`. storage: of its new caches."""
    from tqgen_kernels.tuning.database.folder import bundled_database, user_database
    from tqgen_kernels.tuning.database.snapshot import take
    from tqgen_kernels.tuning.record.environment import detect

    environment = detect(backends.default_name())
    databases = (user_database(), bundled_database())
    return take(environment, *databases, tuned=_mode() != "off", storage=storage)


def follow(leader: Snapshot | None) -> None:
    """Choose by `leader` from now on, whatever records there are here; None: by those again."""
    global _leader
    with _lock:
        _leader = leader
        _kernels.clear()


def leader() -> Snapshot | None:
    """Whom this process follows."""
    return _leader


def _led(problem: Problem, leader: Snapshot) -> Choice:
    from tqgen_kernels.tuning.database.select import select
    from tqgen_kernels.tuning.database.validate import validate

    if not leader.tuned:
        return _default(problem)
    default = FAMILIES[family_of(problem)].without_record(problem)
    records = (leader.own, leader.bundled)
    return select(problem, leader.environment, *records, validate, default=default)


def _recorded(problem: Problem, backend: str) -> Choice:
    from tqgen_kernels.tuning.database.folder import bundled_database, user_database
    from tqgen_kernels.tuning.database.select import select
    from tqgen_kernels.tuning.database.validate import validate
    from tqgen_kernels.tuning.record.environment import detect

    return select(
        problem,
        detect(backend),
        user_database(),
        bundled_database(),
        validate,
        default=FAMILIES[family_of(problem)].without_record(problem),
    )
