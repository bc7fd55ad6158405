"""The tuner's runner on this machine's device, and what a user calls to tune."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import mlx.core as mx
import numpy as np

from tqgen_kernels import backends, kernels, registry
from tqgen_kernels.backends import portable
from tqgen_kernels.backends.compiled import Compiled, example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.families.attend import expected_output
from tqgen_kernels.codegen.families.vectors import relative_l2
from tqgen_kernels.codegen.family import Example, Verification
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    family_of,
)
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.operations import Packed
from tqgen_kernels.tuning.database.folder import Database, user_database
from tqgen_kernels.tuning.record.environment import detect
from tqgen_kernels.tuning.record.policy import DEFAULT, QUICK
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.runner import InvalidVariant, Prepared, road_name
from tqgen_kernels.tuning.search.session import DEFAULT_SECONDS, tune_all
from tqgen_kernels.tuning.search.strategy import Strategy
from tqgen_kernels.tuning.search.task import task_of
from tqgen_kernels.tuning.search.tuner import Progress

ROTATED_BYTES = 192 * 2**20  # of inputs, so that no launch finds its own in the last-level cache
MAX_COPIES = 32
EMULATED_TOKENS = 256  # more would take the CPU minutes
_SEED = 42  # of the families' examples: keys 42, values 43


@dataclass
class DeviceRunner:
    """Compiles, verifies and times candidates through the registry; keeps one problem's inputs."""

    backend: str
    _inputs: dict[Any, list[dict[str, mx.array]]] = field(default_factory=dict)

    def source_sha256(self, problem: Problem, config: Config) -> str:
        if road_name(config) is not None:
            return ""
        try:
            return render(problem, config).sha256
        except ValueError as error:
            raise InvalidVariant("constraints", str(error)) from None

    def prepare(self, problem: Problem, config: Config) -> Prepared:
        family = FAMILIES[family_of(problem)]
        tokens = min(problem.context, EMULATED_TOKENS) if self.backend == "emulated" else None
        if road_name(config) is not None:
            return self._road(problem, tokens)
        compiled = registry.compile(problem, config, self.backend)
        try:
            verification = compiled.verify(tokens=registry.SMALL)
        except (RuntimeError, ValueError) as error:
            raise InvalidVariant("launch", str(error)) from error
        if not verification.passed:
            detail = f"error {verification.error:.3g}, allowed {verification.tolerance:.3g}"
            raise InvalidVariant("correctness", detail)
        example = family.example(problem, np.random.default_rng(1), tokens, config)
        copies = self._copies(problem, tokens, example)
        step = self._with_combine(problem, compiled)

        def launch(n: int) -> float:
            start = time.perf_counter()
            mx.eval([step(copies[i % len(copies)], example.scalars) for i in range(n)])
            return time.perf_counter() - start

        return Prepared(compiled.variant.sha256, verification, self._bytes(problem, tokens), launch)

    def _with_combine(self, problem: Problem, compiled: Compiled) -> Callable[..., list[mx.array]]:
        """attend is timed with the combine that it needs: splits are not free, and the portable
        path does the work of both."""
        if not isinstance(problem, AttendProblem):
            return compiled
        heads = problem.kv_heads * problem.gqa
        merge = CombineProblem(problem.value_dim, problem.dtype, heads=heads, batch=problem.batch)
        config = FAMILIES["combine"].default(merge)
        combine = registry.compile(merge, config, self.backend)
        value_signs = portable.signs(problem.value_dim, _SEED + 1)

        def step(inputs: dict[str, mx.array], scalars: Mapping[str, int]) -> list[mx.array]:
            partials, statistics = compiled(inputs, scalars)
            merged = {"partials": partials, "statistics": statistics, "signs": value_signs}
            return combine({**merged, "params": inputs["params"]}, {})

        return step

    def _road(self, problem: Problem, tokens: int | None) -> Prepared:
        """Plain MLX operations on the same inputs."""
        family = FAMILIES[family_of(problem)]
        small = family.example(problem, np.random.default_rng(0), registry.SMALL)
        outputs = run_portable(problem, example_arrays(small), small)
        verification = verify_portable(problem, small, outputs)
        example = family.example(problem, np.random.default_rng(1), tokens)
        copies = self._copies(problem, tokens, example)

        def launch(n: int) -> float:
            start = time.perf_counter()
            mx.eval([run_portable(problem, copies[i % len(copies)], example) for i in range(n)])
            return time.perf_counter() - start

        return Prepared("", verification, self._bytes(problem, tokens), launch)

    def _bytes(self, problem: Problem, tokens: int | None) -> int:
        from dataclasses import replace

        sized = problem if tokens is None else replace(problem, context=tokens)
        return FAMILIES[family_of(problem)].bytes_moved(sized)

    def _copies(
        self, problem: Problem, tokens: int | None, example: Example
    ) -> list[dict[str, mx.array]]:
        """The inputs several times over; only `params` depends on the candidate."""
        key = (problem, tokens)
        if key not in self._inputs:
            self._inputs.clear()
            total = sum(a.nbytes for a in example.inputs.values())
            count = 1 if self.backend == "emulated" else ceil(ROTATED_BYTES / total)
            self._inputs[key] = [
                example_arrays(example) for _ in range(min(MAX_COPIES, max(1, count)))
            ]
        params = mx.array(example.inputs["params"])
        mx.eval(params)
        return [{**inputs, "params": params} for inputs in self._inputs[key]]


def has_portable(problem: Problem) -> bool:
    """Whether plain MLX operations do all of the problem's work."""
    return isinstance(problem, EncodeProblem | DequantizeProblem | AttendProblem)


def run_portable(problem: Problem, inputs: dict[str, mx.array], example: Example) -> list[mx.array]:
    """The problem by plain MLX operations; attend and combine are one there."""
    if isinstance(problem, EncodeProblem):
        return list(
            portable.encode(
                inputs["x"],
                bits=problem.bits,
                seed=_SEED,
                layout=problem.layout,
                norm_correction=problem.norm_correction,
                codebook=problem.codebook,
            )
        )
    if isinstance(problem, DequantizeProblem):
        vectors = portable.dequantize(
            inputs["words"],
            inputs["scales"],
            tiles=example.scalars["tiles"],
            head_dim=problem.head_dim,
            bits=problem.bits,
            seed=_SEED,
            layout=problem.layout,
            dtype=getattr(mx, problem.dtype),
            rotated=problem.rotated,
            codebook=problem.codebook,
        )
        return [vectors]
    if isinstance(problem, AttendProblem):
        names = ("key_words", "key_scales", "value_words", "value_scales")
        store = Packed(
            **{name: inputs[name] for name in (*names, "exact_keys", "exact_values")},
            tiles=example.scalars["tiles"],
            exact=example.scalars["exact"],
            key_bits=problem.key_bits,
            value_bits=problem.value_bits,
            key_seed=_SEED,
            value_seed=_SEED + 1,
            codebook=problem.codebook,
            storage=problem.storage,
        )
        return [portable.attend(inputs["queries"], store, scale=problem.key_dim**-0.5)]
    raise InvalidVariant("constraints", f"{family_of(problem)} has no portable path")


def verify_portable(problem: Problem, example: Example, outputs: list[mx.array]) -> Verification:
    arrays = [to_numpy(array) for array in outputs]
    if isinstance(problem, AttendProblem):
        tolerance = 4e-3  # MLX multiplies float32 in TF32 on NVIDIA
        return relative_l2(arrays[0], expected_output(problem, example), tolerance)
    family = FAMILIES[family_of(problem)]
    named: dict[str, Any] = dict(zip(family.outputs, arrays, strict=True))
    return family.verify(problem, example, named)


def device_backend() -> str:
    """The backend to tune: the device's, or the emulator where there is no GPU."""
    name = backends.default_name()
    return "emulated" if name == backends.PORTABLE else name


def autotune(
    problems: Sequence[Problem],
    *,
    seconds: float | None = DEFAULT_SECONDS,
    quick: bool = False,
    again: bool = False,
    backend: str | None = None,
    strategy: Strategy | None = None,
    database: Database | None = None,
    progress: Callable[[Progress], None] = lambda state: None,
) -> list[Record]:
    """Tunes `problems` on this device and stores a record of each; later caches choose by them.

    seconds: for all of them together, None for no limit. quick: few candidates, few samples.
    Goes on from stored records; `again` measures anew. Where there is no GPU the emulator runs the
    kernels at a small size: that verifies them, and says nothing about the speed of a GPU.
    """
    name = backend or device_backend()
    tasks = [task_of(p, roads=("mlx",) if has_portable(p) else ()) for p in problems]
    records = tune_all(
        tasks,
        DeviceRunner(name),
        detect(name),
        database=user_database() if database is None else database,
        policy=QUICK if quick else DEFAULT,
        strategy=strategy,
        seconds=seconds,
        again=again,
        progress=progress,
    )
    kernels.forget()
    return records
