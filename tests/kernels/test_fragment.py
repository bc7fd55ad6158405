"""attend over fragment storage, emulated, against the float64 reference on the same codes."""

import dataclasses

import numpy as np
import pytest

from tqgen_kernels.backends.compiled import example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.half_polynomial import evaluate, half_polynomial
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.codebook import codebook

ATTEND = FAMILIES["attend"]


def problem(dim: int, key_bits: int, value_bits: int, **fields) -> AttendProblem:  # type: ignore[no-untyped-def]
    fields = {"dtype": "float32", "kv_heads": 1, "codebook": "cubic"} | fields
    return AttendProblem(dim, dim, key_bits, value_bits, storage="fragment", **fields)


def verify(problem: Problem, config: Config | None = None, tokens: int = 300) -> None:
    config = config or FAMILIES[family_of(problem)].default(problem)
    registry.verify(registry.compile(problem, config, "emulated"), tokens=tokens)


PROBLEMS = (
    problem(64, 3, 3, gqa=4, kv_heads=2),
    problem(128, 4, 3, gqa=7, q_len=2, dtype="float16", codebook="mixed"),
    problem(96, 2, 2, gqa=3, q_len=4, codebook="uniform", batch=2),
)
CASES = [
    pytest.param(p, config, id=f"{i}-{config}".replace(" ", "-"))
    for i, p in enumerate(PROBLEMS)
    for config in candidates(ATTEND, p)
    if config["groups"] == 512 and config["resident"] == 0  # neither is in what the emulator runs
]


@pytest.mark.parametrize(("problem", "config"), CASES)
def test_a_variant_agrees_with_the_reference(problem: AttendProblem, config: Config) -> None:
    verify(problem, config, tokens=400)


def test_masks() -> None:
    """Rows of different lengths, one of them with tokens that a window has left behind."""
    boolean = problem(64, 3, 2, gqa=5, q_len=2, mask="boolean", batch=3)
    for rows in (8, 16):
        verify(boolean, Config.of(**{**ATTEND.default(boolean).mapping, "rows": rows}), 400)
    additive = problem(32, 4, 3, gqa=3, mask="additive", value_threshold=1e-4, dtype="bfloat16")
    verify(additive, tokens=400)


@pytest.mark.parametrize("gqa", [1, 4, 7, 8, 16])
@pytest.mark.parametrize("q_len", [1, 2, 3, 4])
def test_every_kind_of_head_sharing(gqa: int, q_len: int) -> None:
    p = problem(64, 3, 3, gqa=gqa, q_len=q_len)
    for rows in (8, 16):
        config = Config.of(**{**ATTEND.default(p).mapping, "rows": rows})
        if config in candidates(ATTEND, p):
            verify(p, config)


@pytest.mark.parametrize("dim", [32, 64, 128, 256])
@pytest.mark.parametrize(("key_bits", "value_bits"), [(2, 2), (3, 3), (4, 4), (4, 3)])
def test_head_dims_and_bits(dim: int, key_bits: int, value_bits: int) -> None:
    # Several heads: the error is relative L2 over all rows, and two rows scatter to beyond 2e-3.
    verify(problem(dim, key_bits, value_bits, gqa=2, kv_heads=4))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("kind", ["lloyd-max", "uniform", "cubic"])
def test_every_width_and_codebook(bits: int, kind: str) -> None:
    if kind != "lloyd-max" or bits <= 4:
        verify(problem(32, bits, bits, codebook=kind), tokens=200)


def test_keys_and_values_of_different_dims() -> None:
    verify(dataclasses.replace(problem(192, 4, 3), value_dim=128))


@pytest.mark.parametrize("tokens", [1, 31, 71, 103, 135, 1023])
def test_odd_token_counts(tokens: int) -> None:
    p = problem(64, 3, 3, gqa=2)
    for in_flight in (1, 2):
        verify(p, Config.of(**{**ATTEND.default(p).mapping, "in_flight": in_flight}), tokens)


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e4, 1e30])
@pytest.mark.parametrize("scale", [6e-8, 1e-4, 3e4])
def test_queries_and_value_scales_of_any_size(factor: float, scale: float) -> None:
    """Neither has to fit a half: the kernel holds both over their largest."""
    p = problem(64, 3, 3, gqa=4)
    compiled = registry.compile(p, ATTEND.default(p), "emulated")
    example = ATTEND.example(p, np.random.default_rng(0), 400, compiled.variant.config)
    inputs = dict(example.inputs)
    inputs["queries"] = (inputs["queries"] * np.float32(factor)).astype(np.float32)
    bits = np.float32(p.key_dim**-0.5 / factor).view(np.int32)
    inputs["params"] = inputs["params"].copy()
    inputs["params"][5] = bits
    values = inputs["value_scales"].astype(np.float32) * np.float32(scale)
    inputs["value_scales"] = np.minimum(values, 65504).astype(np.float16)
    inputs["exact_values"] = inputs["exact_values"] * np.float32(scale)
    example = dataclasses.replace(example, inputs=inputs)
    outputs = compiled(example_arrays(example), example.scalars)
    named = dict(zip(ATTEND.outputs, map(to_numpy, outputs), strict=True))
    restored = dataclasses.replace(
        example, inputs=inputs | {"queries": inputs["queries"] / np.float32(factor)}
    )
    found = ATTEND.verify(p, restored, named)
    assert found.passed, found


def test_scores_that_grow_along_the_tokens_move_the_maximum() -> None:
    p = problem(64, 3, 3, gqa=4)
    compiled = registry.compile(p, ATTEND.default(p), "emulated")
    example = ATTEND.example(p, np.random.default_rng(0), 1500, compiled.variant.config)
    inputs = dict(example.inputs)
    growth = np.geomspace(0.01, 6, inputs["key_scales"].shape[2]).astype(np.float32)
    inputs["key_scales"] = (inputs["key_scales"] * growth[:, None]).astype(np.float16)
    inputs["value_scales"] = (inputs["value_scales"] * growth[:, None]).astype(np.float16)
    example = dataclasses.replace(example, inputs=inputs)
    outputs = compiled(example_arrays(example), example.scalars)
    named = dict(zip(ATTEND.outputs, map(to_numpy, outputs), strict=True))
    found = ATTEND.verify(p, example, named)
    assert found.error < 4e-3, found  # scores of 60 are off by 4 times what those of 16 are


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("layout", ["key_fragment", "value_fragment"])
def test_encode_and_dequantize(bits: int, layout: str) -> None:
    kind = "cubic" if bits % 2 else "uniform"
    for cls in (EncodeProblem, DequantizeProblem):
        verify(cls(96, bits, layout, codebook=kind, kv_heads=2), tokens=96)


@pytest.mark.parametrize("family", [EncodeProblem, DequantizeProblem])
def test_every_way_to_write_and_read_fragments(family: type) -> None:
    p = family(64, 3, "value_fragment", codebook="cubic", kv_heads=1)
    for config in candidates(FAMILIES[family_of(p)], p):
        verify(p, config, tokens=64)


@pytest.mark.parametrize("dim", [32, 128, 512])
@pytest.mark.parametrize("bits", range(1, 9))
def test_half_arithmetic_decodes_to_the_codebook(dim: int, bits: int) -> None:
    y = (2.0 * np.arange(2**bits) + 1) / 2**bits - 1
    for kind in ("lloyd-max", "uniform", "cubic"):
        if kind == "lloyd-max" and bits > 4:
            continue
        found = half_polynomial(dim, bits, kind)
        decoded = found.factor * evaluate(y, found.ratios)
        assert found.error < 4e-4
        assert np.abs(decoded - codebook(dim, bits, kind)).max() < 3e-3
        assert all(float(np.float16(ratio)) == ratio for ratio in found.ratios)


@pytest.mark.parametrize("storage", ["tiles", "fragment"])
@pytest.mark.parametrize("mask", ["none", "boolean"])
def test_values_below_the_threshold_are_left_out_and_no_others(storage: str, mask: str) -> None:
    """The example's quiet tiles get NaN values, and the sinks weights beside which those are
    nothing: what is finite and right has read the loud tiles and no quiet one."""
    p = problem(64, 4, 3, gqa=3, value_threshold=0.01)
    p = dataclasses.replace(p, storage=storage, mask=mask)  # type: ignore[arg-type]
    config = ATTEND.default(p)
    compiled = registry.compile(p, config, "emulated")
    example = ATTEND.example(p, np.random.default_rng(0), 900, config)
    inputs = {name: array.copy() for name, array in example.inputs.items()}
    inputs["queries"][:] = query = inputs["queries"][:, :1, :1]
    inputs["key_centre"][:] = 0.0
    inputs["exact_keys"][:, :, :4] = query * (8 * 9 / np.sum(query**2))  # scores of 9
    quiet = np.arange(inputs["key_scales"].shape[2]) % 3 > 0
    if mask == "boolean":
        inputs["mask"][:] = True
        inputs["mask"][..., 64:96] = False  # all of a tile
    clean = dataclasses.replace(example, inputs=dict(inputs))
    scales = inputs["value_scales"]
    inputs["value_scales"] = np.where(quiet[:, None], np.nan, scales).astype(scales.dtype)
    arrays = example_arrays(dataclasses.replace(example, inputs=inputs))
    outputs = [to_numpy(array) for array in compiled(arrays, example.scalars)]
    found = ATTEND.verify(p, clean, dict(zip(ATTEND.outputs, outputs, strict=True)))
    assert found.passed, found
    reads_all = dataclasses.replace(p, value_threshold=0.0)
    every = registry.compile(reads_all, config, "emulated")(arrays, example.scalars)
    assert not np.isfinite(to_numpy(every[0])).all()
