"""Candidates of a few problems of each family, against the float64 reference, emulated.

Every candidate of the first attend problem and of small spaces; of the others so many that every
two values of two tunables meet. `tqgen verify --every 1` runs all of all.
"""

import dataclasses

import numpy as np
import pytest

from tests.kernels.covering import covering, pairs_of
from tqgen_kernels.backends.compiled import example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    QKScoresProblem,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry

PROBLEMS: tuple[Problem, ...] = (
    EncodeProblem(64, 3, "key", kv_heads=2),
    EncodeProblem(64, 4, "value", "bfloat16", kv_heads=2),
    EncodeProblem(80, 5, "key", "float32", norm_correction=False, kv_heads=1),
    EncodeProblem(96, 1, "value", "float32", kv_heads=1),
    DequantizeProblem(64, 3, "key", kv_heads=2),
    DequantizeProblem(80, 4, "value", "bfloat16", kv_heads=2),
    DequantizeProblem(384, 8, "value", "float32", kv_heads=1),
    DequantizeProblem(64, 2, "key", "float32", rotated=True, kv_heads=1),
    QKScoresProblem(64, 3, gqa=3, kv_heads=2),
    QKScoresProblem(80, 4, gqa=2, q_len=2, dtype="float32", kv_heads=1),
    AttendProblem(64, 64, 4, 3, gqa=3, dtype="float32", kv_heads=2),
    AttendProblem(80, 96, 3, 2, gqa=2, q_len=3, dtype="float16", kv_heads=1, batch=2),
    AttendProblem(64, 80, 2, 4, gqa=3, q_len=2, dtype="float16", kv_heads=1, mask="boolean"),
    CombineProblem(64, "float32", heads=5),
    CombineProblem(80, "bfloat16", heads=3),
    CombineProblem(64, "float16", heads=12, sinks=True, batch=2),
)
WHOLE = next(p for p in PROBLEMS if isinstance(p, AttendProblem))
SMALL_SPACE = 10


def configs(problem: Problem) -> list[Config]:
    every = [
        config
        for config in candidates(FAMILIES[family_of(problem)], problem)
        if dict(config.values).get("groups", 512) == 512  # it changes no text
    ]
    return every if problem == WHOLE or len(every) <= SMALL_SPACE else covering(every)


CASES = [
    pytest.param(problem, config, id=f"{family_of(problem)}-{i}-{config}".replace(" ", "-"))
    for i, problem in enumerate(PROBLEMS)
    for config in configs(problem)
]


def test_every_two_values_meet() -> None:
    problem = next(p for p in PROBLEMS if isinstance(p, AttendProblem) and p.batch > 1)
    every = candidates(FAMILIES["attend"], problem)
    pairs = set().union(*map(pairs_of, every))
    chosen = covering(every)
    assert set().union(*map(pairs_of, chosen)) == pairs
    assert len(chosen) < len(every) / 4


@pytest.mark.parametrize(("problem", "config"), CASES)
def test_a_variant_agrees_with_the_reference(problem: Problem, config: Config) -> None:
    registry.verify(registry.compile(problem, config, "emulated"), tokens=192)


@pytest.mark.parametrize("dim", [32, 40, 112, 128, 256, 320, 512])
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_the_defaults_work_at_every_kind_of_head_dim(dim: int, bits: int) -> None:
    problems = (
        EncodeProblem(dim, bits, "key", kv_heads=1),
        EncodeProblem(dim, bits, "value", kv_heads=1),
        DequantizeProblem(dim, bits, "key", kv_heads=1),
        DequantizeProblem(dim, bits, "value", kv_heads=1),
        AttendProblem(dim, dim, bits, 9 - bits, kv_heads=1, gqa=2),
        CombineProblem(dim, heads=2),
    )
    for problem in problems:
        config = FAMILIES[family_of(problem)].default(problem)
        registry.verify(registry.compile(problem, config, "emulated"), tokens=160)


@pytest.mark.parametrize(("key_bits", "value_bits"), [(16, 3), (3, 16)])
def test_some_candidates_of_one_exact_side(key_bits: int, value_bits: int) -> None:
    problem = AttendProblem(
        64, 32, key_bits, value_bits, gqa=2, dtype="float32", kv_heads=1, value_threshold=1e-3
    )
    some = [c for c in candidates(FAMILIES["attend"], problem) if c["groups"] == 512][3::13]
    assert {c["layout"] for c in some} == ({"dim"} if key_bits == 16 else {"dim", "token"})
    for config in some:
        registry.verify(registry.compile(problem, config, "emulated"), tokens=300)


@pytest.mark.parametrize("dim", [40, 112])
@pytest.mark.parametrize(("key_bits", "value_bits"), [(16, 2), (5, 16)])
def test_one_exact_side_at_every_kind_of_head_dim(dim: int, key_bits: int, value_bits: int) -> None:
    """Rows of different lengths, with tokens that a window has left behind, and a mask."""
    problem = AttendProblem(
        dim, 64, key_bits, value_bits, gqa=3, q_len=2, kv_heads=1, batch=3, mask="boolean"
    )
    for one in (problem, CombineProblem(dim, exact=True, sinks=dim == 40, heads=3)):
        config = FAMILIES[family_of(one)].default(one)
        registry.verify(registry.compile(one, config, "emulated"), tokens=300)


def test_attend_under_a_mask_that_is_added() -> None:
    for batch, q_len in ((1, 1), (3, 4)):
        problem = AttendProblem(
            64, 64, 3, 3, gqa=2, q_len=q_len, dtype="float32", mask="additive", batch=batch
        )
        config = FAMILIES["attend"].default(problem)
        registry.verify(registry.compile(problem, config, "emulated"), tokens=300)


@pytest.mark.parametrize("storage", ["tiles", "fragment"])
@pytest.mark.parametrize(("dtype", "q_len"), [("float16", 1), ("bfloat16", 3), ("float32", 8)])
def test_attend_with_tokens_that_the_window_does_not_hold_yet(storage, dtype, q_len) -> None:
    problem = AttendProblem(
        96, 64, 4, 3, 3, q_len, dtype, "mixed", storage, fresh=True, kv_heads=2, batch=3
    )
    compiled = registry.compile(problem, FAMILIES["attend"].default(problem), "emulated")
    for tokens in (q_len, q_len + 1, 45, 300):
        registry.verify(compiled, tokens=tokens)


def test_windows_that_are_written_wrongly_are_seen() -> None:
    problem = AttendProblem(64, 64, 4, 3, 2, dtype="float32", fresh=True, kv_heads=1)
    compiled = registry.compile(problem, FAMILIES["attend"].default(problem), "emulated")
    example = compiled.family.example(problem, np.random.default_rng(0), 90)
    outputs = compiled(example_arrays(example), example.scalars)
    named = dict(zip(compiled.variant.output_names, map(to_numpy, outputs), strict=True))
    assert compiled.family.verify(problem, example, named).passed
    named["window_values"] = named["window_values"].copy()
    named["window_values"][0, 0, example.scalars["exact"] - 1, 5] += 1.0
    assert not compiled.family.verify(problem, example, named).passed


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 71, 103, 1023])
def test_attend_at_odd_token_counts(tokens: int) -> None:
    problem = AttendProblem(64, 64, 3, 3, gqa=2, dtype="float32", kv_heads=1)
    config = FAMILIES["attend"].default(problem)
    registry.verify(registry.compile(problem, config, "emulated"), tokens=tokens)


@pytest.mark.parametrize("gqa", [1, 5, 7, 8, 12, 16])
@pytest.mark.parametrize("q_len", [1, 2, 8])
def test_attend_at_every_kind_of_head_sharing(gqa: int, q_len: int) -> None:
    problem = AttendProblem(32, 32, 4, 4, gqa=gqa, q_len=q_len, dtype="float32", kv_heads=1)
    for rows in (1, 4, 8):
        config = FAMILIES["attend"].default(problem)
        config = Config.of(**{**dict(config.values), "rows": rows, "simdgroups": 2})
        if config in candidates(FAMILIES["attend"], problem):
            registry.verify(registry.compile(problem, config, "emulated"), tokens=150)


def test_a_launch_only_tunable_shares_the_text() -> None:
    problem = AttendProblem(64, 64, 3, 3)
    default = FAMILIES["attend"].default(problem)
    other = Config.of(**{**dict(default.values), "groups": 128})
    first, second = (registry.compile(problem, c, "emulated").variant for c in (default, other))
    assert first.name == second.name
    assert dataclasses.replace(second, config=default) == first
