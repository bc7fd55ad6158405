"""prefill, emulated, against the float64 reference on the same codes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tqgen_kernels import emulator
from tqgen_kernels.backends.compiled import Compiled, example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Example, Verification
from tqgen_kernels.codegen.problem import PrefillProblem
from tqgen_kernels.codegen.space import candidates, space
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry

PREFILL = FAMILIES["prefill"]
SMALL = PrefillProblem(32, 32, 3, 3, "float32", "cubic", heads=3, kv_heads=1)


def config(problem: PrefillProblem, **changes: int) -> Config:
    return Config.of(**{**PREFILL.default(problem).mapping, **changes})


def compiled(problem: PrefillProblem, **changes: int) -> Compiled:
    return registry.compile(problem, config(problem, **changes), "emulated")


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        (PrefillProblem(64, 64, 4, 3, heads=4, kv_heads=2, batch=3), {}),
        (PrefillProblem(32, 64, 2, 4, "bfloat16", heads=2, kv_heads=2), {"buffers": 1}),
        (
            PrefillProblem(
                64, 32, 4, 2, "float32", storage="tiles", sinks=True, heads=6, kv_heads=2
            ),
            {"strips": 1},
        ),
    ],
    ids=["plain", "one-buffer", "tiles"],
)
def test_no_fault_and_no_wrong_sum(problem: PrefillProblem, changes: dict[str, int]) -> None:
    """With every check: bounds, races, barriers, what was never written."""
    kernel = compiled(problem, **changes)
    for tokens in (300, 31):
        registry.verify(kernel, tokens=tokens)


@pytest.mark.parametrize(
    "config",
    [c for c in candidates(PREFILL, SMALL) if c["resident"] == 0],  # not in what runs here
    ids=lambda c: str(c).replace(" ", "-"),
)
def test_every_candidate(config: Config) -> None:
    with emulator.options(checks="fast"):
        registry.verify(registry.compile(SMALL, config, "emulated"), tokens=300)


@pytest.mark.parametrize(
    ("dims", "bits", "dtype", "storage"),
    [
        ((128, 128), (4, 3), "float16", "tiles"),
        ((256, 256), (4, 3), "bfloat16", "fragment"),
        ((192, 128), (3, 2), "float16", "fragment"),  # an order that is no power of two
        ((96, 96), (2, 4), "float32", "tiles"),
        ((160, 32), (1, 8), "float16", "fragment"),
        ((32, 32), (7, 5), "float16", "tiles"),  # codes across words
    ],
)
def test_head_dims_and_bits(
    dims: tuple[int, int], bits: tuple[int, int], dtype: Any, storage: Any
) -> None:
    codebook: Any = "uniform" if max(bits) > 4 else "mixed"
    problem = PrefillProblem(*dims, *bits, dtype, codebook, storage, heads=2, kv_heads=1)
    with emulator.options(checks="fast"):
        registry.verify(compiled(problem), tokens=200)


@pytest.fixture(scope="module")
def small() -> Compiled:
    with emulator.options(checks="fast"):
        kernel = compiled(SMALL)
        registry.verify(kernel)
        return kernel


def run(kernel: Compiled, problem: PrefillProblem, example: Example) -> Verification:
    with emulator.options(checks="fast"):
        outputs = kernel(example_arrays(example), example.scalars)
        return PREFILL.verify(problem, example, {"out": to_numpy(outputs[0])})


@settings(max_examples=40, deadline=None)
@given(
    q_len=st.integers(1, 80),
    before=st.integers(0, 70),
    tiles=st.integers(0, 4),
    gqa=st.integers(1, 9),
    causal=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_lengths(
    small: Compiled, q_len: int, before: int, tiles: int, gqa: int, causal: bool, seed: int
) -> None:
    """One text for all: ragged ends of rows, of tiles and of the window."""
    problem = dataclasses.replace(SMALL, heads=2 * gqa, kv_heads=2, queries=q_len)
    example = _example(problem, q_len, before, tiles, seed)
    example.inputs["params"][6] = causal
    found = run(small, problem, example)
    assert found.passed, found


def _example(
    problem: PrefillProblem, q_len: int, before: int, tiles: int, seed: int = 0
) -> Example:
    """`before` exact tokens before the chunk, in place of as many as an example has."""
    rng = np.random.default_rng(seed)
    made = PREFILL.example(problem, rng, q_len + 39 + 32 * tiles + 31)
    exact = q_len + before
    inputs = dict(made.inputs)
    q_shape = (problem.batch, problem.heads, q_len, problem.key_dim)
    inputs["queries"] = rng.standard_normal(q_shape, np.float32)
    for name in ("exact_keys", "exact_values"):
        inputs[name] = rng.standard_normal((1, problem.kv_heads, exact + 2, 32), np.float32)
    rows = int(inputs["key_words"].shape[2]) - 1
    numbers = inputs["params"].copy()
    numbers[3:5] = q_len, exact + 2
    numbers[8:10] = min(tiles, rows), exact
    return dataclasses.replace(made, inputs=inputs | {"params": numbers})


def _times(name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(inputs: dict[str, Any]) -> None:
        scaled = inputs[name].astype(np.float32) * np.float32(factor)
        inputs[name] = scaled.astype(inputs[name].dtype)

    return change


def _scores_grow(inputs: dict[str, Any]) -> None:
    growth = np.geomspace(0.01, 3, inputs["key_scales"].shape[2]).astype(np.float32)
    for name in ("key_scales", "value_scales"):
        inputs[name] = (inputs[name] * growth[:, None]).astype(np.float16)


def _beyond_halves(inputs: dict[str, Any]) -> None:
    """Queries times keys as before, neither within the range of a half."""
    inputs["queries"] = inputs["queries"] * np.float32(1e-9)
    inputs["params"] = inputs["params"].copy()
    inputs["params"][5] = np.float32(32**-0.5 * 1e9).view(np.int32)
    inputs["exact_values"] = inputs["exact_values"] * np.float32(1e8)


@pytest.mark.parametrize(
    "change",
    [
        _times("queries", 0.0),
        _times("exact_values", 1e-3),
        _times("value_scales", 1e4),
        _times("key_scales", 1e-4),
        _scores_grow,
        _beyond_halves,
    ],
    ids=["zero", "small-exact", "large-scales", "small-scales", "growing", "beyond-halves"],
)
def test_hard_inputs(small: Compiled, change: Callable[[dict[str, Any]], None]) -> None:
    example = _example(SMALL, 50, 20, 6)
    inputs = dict(example.inputs)
    change(inputs)
    found = run(small, SMALL, dataclasses.replace(example, inputs=inputs))
    assert found.error < 4e-3, found  # larger scores are off by more


def test_rows_of_a_batch_are_their_own(small: Compiled) -> None:
    problem = dataclasses.replace(SMALL, batch=3)
    found = run(small, problem, PREFILL.example(problem, np.random.default_rng(0), 300))
    assert found.passed, found


def test_what_it_does_not_take_is_named() -> None:
    for fields, message in (
        ({"key_dim": 320, "value_dim": 64}, "key_dim 320 is not supported"),
        ({"key_dim": 80, "value_dim": 64}, "key_dim 80 is not supported"),
        ({"key_dim": 64, "value_dim": 64, "storage": "rows"}, "storage 'rows' is not supported"),
        ({"key_dim": 64, "value_dim": 64, "heads": 5, "kv_heads": 2}, "multiple of kv_heads 2"),
    ):
        with pytest.raises(ValueError, match=message):
            PrefillProblem(key_bits=4, value_bits=3, **fields)
    removed = [c.removed_by for c in space(PREFILL, PrefillProblem(256, 256, 4, 3))]
    assert any(reason and "registers" in reason for reason in removed)
