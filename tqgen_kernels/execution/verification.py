"""What `tqgen verify` compares with the float64 reference, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tqgen_kernels.codegen.bundled import bundled_problems
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import (
    EXACT,
    MAX_PREFILL_DIM,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    PrefillProblem,
    Problem,
    QKScoresProblem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.tuning.search.runner import InvalidVariant

HEAD_DIMS = (32, 64, 80, 96, 112, 128, 160, 192, 256, 320, 512)
TOKENS = 328  # odd: whole tiles and a part of one
LONG = 1_000_003


@dataclass(frozen=True)
class Outcome:
    """One variant: its error against the reference, or why it could not be used."""

    problem: Problem
    config: Config
    verification: Verification | None
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.verification is not None and self.verification.passed


def problems(head_dim: int) -> Iterator[Problem]:
    """A spread of problems at one head_dim: bits, dtypes, layouts, sharing, query lengths."""
    for i, bits in enumerate((1, 2, 3, 4, 5, 6, 7, 8)):
        dtype = ("float16", "bfloat16", "float32")[i % 3]
        for layout in ("key", "value"):
            yield EncodeProblem(head_dim, bits, layout, dtype, kv_heads=2)  # type: ignore[arg-type]
            yield DequantizeProblem(head_dim, bits, layout, dtype, i % 2 == 1, kv_heads=2)  # type: ignore[arg-type]
    for bits, dtype in ((2, "float16"), (3, "bfloat16"), (4, "float32")):
        yield TrellisEncodeProblem(head_dim, bits, dtype, kv_heads=2)  # type: ignore[arg-type]
        yield TrellisDequantizeProblem(head_dim, bits, dtype, kv_heads=2)  # type: ignore[arg-type]
    for key_bits, value_bits, gqa, q_len, dtype in (
        (4, 3, 4, 1, "float16"),
        (3, 3, 7, 1, "bfloat16"),
        (2, 4, 1, 1, "float32"),
        (8, 1, 16, 1, "float32"),
        (3, 5, 2, 4, "float16"),
        (6, 2, 3, 8, "float32"),
    ):
        yield QKScoresProblem(head_dim, key_bits, gqa, q_len, dtype, kv_heads=2)  # type: ignore[arg-type]
        yield AttendProblem(
            head_dim, head_dim, key_bits, value_bits, gqa, q_len, dtype, kv_heads=2, batch=2  # type: ignore[arg-type]
        )  # fmt: skip
    for mask in ("boolean", "additive"):
        yield AttendProblem(head_dim, head_dim, 4, 3, 4, 2, mask=mask, kv_heads=2, batch=2)
    yield AttendProblem(head_dim, head_dim, 4, 3, 4, fresh=True, kv_heads=2, batch=2)
    for key_bits, value_bits in ((EXACT, 3), (4, EXACT)):
        yield AttendProblem(head_dim, head_dim, key_bits, value_bits, 4, 2, kv_heads=2, batch=2)
    yield AttendProblem(head_dim, head_dim, 4, 3, 4, value_threshold=1e-3, kv_heads=2, batch=2)
    yield CombineProblem(head_dim, exact=True, heads=7, batch=2)
    if head_dim % 32 == 0:
        yield from _fragment_problems(head_dim)
    for dtype in ("float16", "bfloat16", "float32"):
        sinks = dtype == "bfloat16"
        yield CombineProblem(head_dim, dtype, sinks, heads=7, batch=2)  # type: ignore[arg-type]


def _fragment_problems(head_dim: int) -> Iterator[Problem]:
    """The same for tiles that are packed after the 8x8 matrix unit."""
    for bits in (2, 3, 4):
        for layout in ("key_fragment", "value_fragment"):
            yield EncodeProblem(head_dim, bits, layout, codebook="cubic", kv_heads=2)
            yield DequantizeProblem(head_dim, bits, layout, codebook="cubic", kv_heads=2)
    for key_bits, value_bits, gqa, q_len, mask, value_threshold in (
        (4, 3, 4, 1, "none", 0.0),
        (3, 3, 7, 1, "none", 0.0),
        (2, 2, 16, 1, "none", 0.0),
        (3, 4, 2, 4, "none", 0.0),
        (4, 3, 4, 2, "boolean", 0.0),
        (4, 2, 7, 1, "additive", 0.0),
        (4, 3, 4, 1, "none", 1e-3),
    ):
        problem = AttendProblem(
            head_dim,
            head_dim,
            key_bits,
            value_bits,
            gqa,
            q_len,
            codebook="mixed",
            storage="fragment",
            mask=mask,  # type: ignore[arg-type]
            value_threshold=value_threshold,
            kv_heads=2,
        )
        if candidates(FAMILIES["attend"], problem):
            yield problem
            if q_len == 1 and gqa < 16 and mask == "none":
                yield replace(problem, fresh=True)
    if head_dim <= MAX_PREFILL_DIM:
        for widths, dtype, storage, heads in (
            ((4, 3), "float16", "fragment", 7),
            ((2, 4), "bfloat16", "fragment", 2),
            ((3, 2), "float32", "tiles", 3),
        ):
            yield PrefillProblem(
                head_dim, head_dim, *widths, dtype, "mixed", storage, heads == 2, heads, 1, 2  # type: ignore[arg-type]
            )  # fmt: skip


def long_problems() -> tuple[Problem, ...]:
    """Attention over LONG tokens: every storage, and values that are not packed or not all read."""
    tiles = AttendProblem(128, 128, 4, 3, 4, codebook="mixed", kv_heads=1, context=LONG)
    return (
        tiles,
        replace(tiles, storage="fragment"),
        replace(tiles, storage="fragment", value_threshold=1e-6),
        replace(tiles, key_bits=EXACT),
    )


def table(head_dims: tuple[int, ...], bundled: bool = False) -> list[Problem]:
    """What `tqgen verify` verifies: a spread of problems at these head_dims, or those bundled, at a
    size that is quick to compute."""
    if bundled:
        return [_small(p) for p in bundled_problems() if _dim(p) in head_dims]
    return [problem for dim in head_dims for problem in problems(dim)]


def _small(problem: Any) -> Problem:
    small: Problem = replace(problem, kv_heads=2) if hasattr(problem, "kv_heads") else problem
    return small


def _dim(problem: Problem) -> int:
    names = ("head_dim", "key_dim", "value_dim")
    return int(next(getattr(problem, name) for name in names if hasattr(problem, name)))


def chosen_configs(problem: Problem, every: int, backend: str = "") -> list[Config]:
    """The default and every `every`-th of the other candidates; 0 for the default alone. The
    emulator runs those once that it cannot tell apart."""
    default, *others = candidates(FAMILIES[family_of(problem)], problem)
    others = others[::every] if every else []
    if backend == "emulated":
        known = {_emulated(config): config for config in reversed([default, *others])}
        others = [c for c in others if known[_emulated(c)] == c]
    return [default, *others]


def _emulated(config: Config) -> tuple[tuple[str, object], ...]:
    """What of a config the emulator sees: not the launch's size, nor advice to a compiler."""
    return tuple(pair for pair in config.values if pair[0] not in ("groups", "resident"))


def verify_all(
    head_dims: tuple[int, ...],
    backend: str,
    *,
    every: int = 0,
    bundled: bool = False,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs each chosen variant once and compares. A failure is an outcome, never an exception."""
    outcomes = []
    for problem in table(head_dims, bundled):
        for config in chosen_configs(problem, every, backend):
            outcome = verify_one(problem, config, backend)
            progress(outcome)
            outcomes.append(outcome)
    return outcomes


def verify_long(
    backend: str,
    tokens: int = LONG,
    *,
    progress: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Attention over so many tokens, by the defaults. Most of the time goes to the reference."""
    outcomes = []
    for problem in long_problems():
        default = FAMILIES[family_of(problem)].default(problem)
        outcome = verify_one(problem, default, backend, tokens)
        progress(outcome)
        outcomes.append(outcome)
    return outcomes


def verify_one(problem: Problem, config: Config, backend: str, tokens: int = TOKENS) -> Outcome:
    """One variant, launched once. A failure is an outcome, never an exception."""
    try:
        compiled = registry.compile(problem, config, backend)
        return Outcome(problem, config, compiled.verify(tokens=tokens))
    except (InvalidVariant, RuntimeError, ValueError) as error:
        return Outcome(problem, config, None, str(error))
