"""Vectors that break careless kernels: each stays in its own token."""

import dataclasses
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tqgen_kernels import backends
from tqgen_kernels.backends.compiled import Compiled, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import DequantizeProblem, EncodeProblem
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.packing import TILE

CONFIGS = (
    Config.of(lanes=4, at_once=32),
    Config.of(lanes=16, at_once=8),
    Config.of(lanes=1, at_once=32),
)
KINDS = ("normal", "zeros", "one hot", "huge", "tiny", "equal", "nan", "inf", "outlier")


def vector(kind: str, dim: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    x = rng.standard_normal(dim).astype(np.float32)
    i = rng.integers(dim)
    if kind == "zeros":
        x[:] = 0.0
    elif kind == "one hot":
        x[:] = 0.0
        x[i] = -3.0
    elif kind == "huge":
        x *= 1e30
    elif kind == "tiny":
        x *= 1e-30
    elif kind == "equal":
        x[:] = 0.5
    elif kind == "nan":
        x[i] = np.nan
    elif kind == "inf":
        x[i] = -np.inf
    elif kind == "outlier":
        x[i] = 1e4
    return x


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("layout", ["key", "value"])
@settings(max_examples=12, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=TILE, max_size=TILE), seed=st.integers(0, 99)
)
def test_encode_keeps_hard_vectors_in_their_token(
    config: Config, layout: str, kinds: list[str], seed: int
) -> None:
    problem = EncodeProblem(64, 3, layout, "float32", kv_heads=1)  # type: ignore[arg-type]
    family = FAMILIES["encode"]
    rng = np.random.default_rng(seed)
    base = family.example(problem, rng, TILE, config)
    x = np.stack([vector(kind, 64, rng) for kind in kinds])[None, None]
    example = Example({**base.inputs, "x": x}, base.scalars, base.casts)
    kernel = registry.compile(problem, config, "emulated")
    outputs = kernel({name: mx.array(a) for name, a in example.inputs.items()}, example.scalars)
    words, scales = map(to_numpy, outputs)
    found = family.verify(problem, example, {"words": words, "scales": scales})
    assert found.passed, found
    bad = np.array([kind in ("nan", "inf") for kind in kinds])
    assert np.array_equal(np.isnan(scales[0, 0, 0]), bad)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_token_that_is_not_finite_changes_no_other(config: Config) -> None:
    problem = EncodeProblem(64, 4, "value", "float32", kv_heads=1)
    example = FAMILIES["encode"].example(problem, np.random.default_rng(0), TILE, config)
    kernel = registry.compile(problem, config, "emulated")
    broken = example.inputs["x"].copy()
    broken[0, 0, 7, 5] = np.nan
    results = []
    for x in (example.inputs["x"], broken):
        arrays = {name: mx.array(a) for name, a in {**example.inputs, "x": x}.items()}
        results.append([to_numpy(a) for a in kernel(arrays, example.scalars)])
    (words, scales), (other_words, other_scales) = results
    token = np.uint32(0xF) << np.uint32(7 % 8 * 4)  # 4 bits: token 7 is in word 0 of a dim
    assert np.array_equal(words[..., 0, :] & ~token, other_words[..., 0, :] & ~token)
    assert np.array_equal(words[..., 1:, :], other_words[..., 1:, :])
    assert np.array_equal(np.delete(scales[0, 0, 0], 7), np.delete(other_scales[0, 0, 0], 7))
    assert np.isnan(other_scales[0, 0, 0, 7])


def test_examples_carry_what_their_problem_says() -> None:
    problem = EncodeProblem(64, 3, kv_heads=2)
    larger = dataclasses.replace(problem, kv_heads=3)
    example = FAMILIES["encode"].example(larger, np.random.default_rng(0), 64)
    assert example.inputs["x"].shape == (1, 3, 64, 64)


@pytest.mark.parametrize("family", ["encode", "dequantize"])
def test_vectors_at_any_address(family: str) -> None:
    """An array may begin anywhere, and then runs of numbers are not loaded as one."""
    cls = EncodeProblem if family == "encode" else DequantizeProblem
    problem = cls(64, 3, "value", kv_heads=2)
    variant = render(problem, FAMILIES[family].default(problem))
    whole = "(ulong(from) & (alignof(Run<T>) - 1)) == 0"
    assert whole in variant.header
    other = dataclasses.replace(variant, header=variant.header.replace(whole, "false"))
    found = Compiled(other, "emulated", backends.load("emulated").build(other)).verify(tokens=64)
    assert found.passed, found
