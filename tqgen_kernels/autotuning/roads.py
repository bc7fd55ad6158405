"""The ways to do a problem's work without a kernel of ours: they race, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from tqgen_kernels.autotuning import stock
from tqgen_kernels.backends import portable
from tqgen_kernels.backends.compiled import to_numpy
from tqgen_kernels.backends.packed import Packed
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.families.attend import expected_output, rows_of
from tqgen_kernels.codegen.families.vectors import relative_l2
from tqgen_kernels.codegen.family import Example, Verification
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    family_of,
)
from tqgen_kernels.execution.operations import attend_dequantized
from tqgen_kernels.tuning.record.decide import BASELINES
from tqgen_kernels.tuning.search.runner import InvalidVariant

SEED = 42  # of the families' examples: keys 42, values 43


def roads_of(problem: Problem) -> tuple[str, ...]:
    """Names of the roads that do all of the problem's work, and of what is measured beside them.

    mx.quantized_matmul over our tiles is none: it reads rows of codes with a scale and a bias for
    each group, and a tile holds neither rows nor biases. Under a mask, what the cache runs without
    a kernel is "sdpa": "mlx" is none.
    """
    if isinstance(problem, AttendProblem):
        return ("mlx", "sdpa", *BASELINES) if problem.mask == "none" else ("sdpa", *BASELINES)
    return ("mlx",) if isinstance(problem, EncodeProblem | DequantizeProblem) else ()


def run(road: str, problem: Problem, inputs: Mapping[str, Any], example: Example) -> list[mx.array]:
    """The problem's outputs by a road; attend and combine are one there.

    inputs: the example's, or what stock.inputs made for a baseline.
    """
    if isinstance(problem, AttendProblem):
        scale = problem.key_dim**-0.5
        if road in BASELINES:
            return [stock.attend(road, inputs, scale)]
        if road == "sdpa":
            store = packed(problem, inputs, example)
            mask = inputs.get("mask")
            return [attend_dequantized(inputs["queries"], store, scale=scale, mask=mask)]
    return run_portable(problem, inputs, example)


def run_portable(problem: Problem, inputs: Mapping[str, Any], example: Example) -> list[mx.array]:
    """The problem by plain MLX operations; attend and combine are one there."""
    if isinstance(problem, EncodeProblem):
        return list(
            portable.encode(
                inputs["x"],
                bits=problem.bits,
                seed=SEED,
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
            seed=SEED,
            layout=problem.layout,
            dtype=getattr(mx, problem.dtype),
            rotated=problem.rotated,
            codebook=problem.codebook,
        )
        return [vectors]
    if isinstance(problem, AttendProblem):
        if problem.mask != "none":
            raise InvalidVariant("constraints", "the portable path reads no mask")
        store = packed(problem, inputs, example)
        return [portable.attend(inputs["queries"], store, scale=problem.key_dim**-0.5)]
    raise InvalidVariant("constraints", f"{family_of(problem)} has no portable path")


def packed(problem: AttendProblem, inputs: Mapping[str, Any], example: Example) -> Packed:
    """The example's inputs as the store that a cache would hand over."""
    names = ("key_words", "key_scales", "value_words", "value_scales")
    return Packed(
        **{name: inputs[name] for name in (*names, "exact_keys", "exact_values")},
        rows=tuple(rows_of(example.inputs["params"])),
        key_bits=problem.key_bits,
        value_bits=problem.value_bits,
        key_seed=SEED,
        value_seed=SEED + 1,
        codebook=problem.codebook,
        storage=problem.storage,
        centre=inputs["key_centre"],
    )


def verify(problem: Problem, example: Example, outputs: list[mx.array]) -> Verification:
    arrays = [to_numpy(array) for array in outputs]
    if isinstance(problem, AttendProblem):
        # MLX multiplies float32 in TF32 on NVIDIA, and a road may work in the model's dtype.
        tolerance = {"float32": 4e-3, "float16": 4e-3, "bfloat16": 3e-2}[problem.dtype]
        return relative_l2(arrays[0], expected_output(problem, example), tolerance)
    family = FAMILIES[family_of(problem)]
    named: dict[str, Any] = dict(zip(family.outputs, arrays, strict=True))
    return family.verify(problem, example, named)
