"""Trellis codes: what the kernels write is what quant/trellis.py would, and reads back the same."""

import mlx.core as mx
import numpy as np
import pytest

from tqgen_kernels.backends.compiled import example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import (
    Problem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    family_of,
)
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.execution.verification import chosen_configs
from tqgen_kernels.quant import trellis
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import rotate

ENCODE, DEQUANTIZE = FAMILIES["trellis_encode"], FAMILIES["trellis_dequantize"]
PROBLEMS: tuple[Problem, ...] = (
    TrellisEncodeProblem(64, 2, "float32", kv_heads=2),
    TrellisEncodeProblem(80, 3, "bfloat16", kv_heads=1),
    TrellisEncodeProblem(32, 4, kv_heads=1),
    TrellisDequantizeProblem(128, 2, kv_heads=2),
    TrellisDequantizeProblem(80, 3, "bfloat16", kv_heads=1),
    TrellisDequantizeProblem(64, 4, "float32", kv_heads=1),
)
CASES = [
    pytest.param(problem, config, id=f"{i}-{config}".replace(" ", "-"))
    for i, problem in enumerate(PROBLEMS)
    for config in chosen_configs(problem, every=6)
]


def verify(problem: Problem, config: Config | None = None, tokens: int = 64) -> None:
    config = config or FAMILIES[family_of(problem)].default(problem)
    registry.verify(registry.compile(problem, config, "emulated"), tokens=tokens)


@pytest.mark.parametrize(("problem", "config"), CASES)
def test_a_variant_agrees_with_the_reference(problem: Problem, config: Config) -> None:
    verify(problem, config)


@pytest.mark.parametrize(("dim", "bits"), [(40, 3), (320, 3), (512, 2)])
def test_the_defaults_work_at_every_kind_of_head_dim(dim: int, bits: int) -> None:
    verify(TrellisEncodeProblem(dim, bits, kv_heads=1), tokens=TILE)
    verify(TrellisDequantizeProblem(dim, bits, kv_heads=1), tokens=TILE)


def encoded(x: np.ndarray, problem: TrellisEncodeProblem) -> tuple[np.ndarray, np.ndarray]:
    """Words and scales of vectors x (1, 1, 32, head_dim)."""
    config = ENCODE.default(problem)
    base = ENCODE.example(problem, np.random.default_rng(0), TILE, config)
    example = Example({**base.inputs, "x": x}, base.scalars, base.casts)
    kernel = registry.compile(problem, config, "emulated")
    words, scales = kernel(example_arrays(example), example.scalars)
    found = ENCODE.verify(problem, example, {"words": to_numpy(words), "scales": to_numpy(scales)})
    assert found.passed, found
    return to_numpy(words), to_numpy(scales)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_codes_are_those_of_the_reference(bits: int) -> None:
    """All but where two sequences are equally near in float32: none of these."""
    problem = TrellisEncodeProblem(64, bits, "float32", kv_heads=1)
    x = np.random.default_rng(bits).standard_normal((1, 1, TILE, 64), np.float32)
    words, _ = encoded(x, problem)
    y = rotate(x / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True), 42) * 8.0
    codes = unpack_tiles(words, 64, bits, "key")
    assert np.array_equal(codes, trellis.nearest(y, bits))


def test_there_and_back_is_as_far_as_the_reference_says() -> None:
    x = np.random.default_rng(1).standard_normal((1, 1, TILE, 128), np.float32)
    words, scales = encoded(x, TrellisEncodeProblem(128, 2, "float32", kv_heads=1))
    problem = TrellisDequantizeProblem(128, 2, "float32", kv_heads=1)
    config = DEQUANTIZE.default(problem)
    base = DEQUANTIZE.example(problem, np.random.default_rng(0), TILE, config)
    inputs = {**base.inputs, "words": words, "scales": scales}
    inputs["params"] = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.int32)
    kernel = registry.compile(problem, config, "emulated")
    arrays = {name: mx.array(array) for name, array in inputs.items()}
    (out,) = kernel(arrays, {"tiles": 1})
    error = ((to_numpy(out) - x) ** 2).sum(-1) / (x**2).sum(-1)
    assert 0.075 < error.mean() < 0.095  # docs/codes.md; the best scalar codebook has 0.116


def test_a_vector_that_is_not_finite_is_marked_and_changes_no_other() -> None:
    problem = TrellisEncodeProblem(64, 2, "float32", kv_heads=1)
    x = np.random.default_rng(2).standard_normal((1, 1, TILE, 64), np.float32)
    x[0, 0, 3] *= 1e30
    x[0, 0, 4] = 0.0
    words, scales = encoded(x, problem)
    x[0, 0, 7, 5], x[0, 0, 9, 0] = np.nan, np.inf
    other_words, other_scales = encoded(x, problem)
    bad = np.isin(np.arange(TILE), (7, 9))
    assert np.array_equal(np.isnan(other_scales[0, 0, 0]), bad)
    assert np.array_equal(words[..., ~bad], other_words[..., ~bad])
    assert np.array_equal(scales[..., ~bad], other_scales[..., ~bad])
