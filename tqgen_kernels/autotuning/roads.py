"""The ways to do a problem's work without a kernel of ours: they race, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from tqgen_kernels.autotuning import stock
from tqgen_kernels.backends import portable
from tqgen_kernels.backends.compiled import to_numpy
from tqgen_kernels.backends.packed import Packed, no_tiles
from tqgen_kernels.cache.by_heads import GROUP_BYTES, heads_at_a_time
from tqgen_kernels.codegen.families import FAMILIES, prefill
from tqgen_kernels.codegen.families.attend import HEADER, Row, expected_output, rows_of
from tqgen_kernels.codegen.families.vectors import relative_l2
from tqgen_kernels.codegen.family import Example, Verification
from tqgen_kernels.codegen.problem import (
    EXACT,
    AttendProblem,
    DequantizeProblem,
    EncodeProblem,
    PrefillProblem,
    Problem,
    family_of,
)
from tqgen_kernels.execution.operations import attend_dequantized
from tqgen_kernels.quant.packing import TILE
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
        if EXACT in (problem.key_bits, problem.value_bits):
            return ("sdpa", "fp16")
        return ("mlx", "sdpa", *BASELINES) if problem.mask == "none" else ("sdpa", *BASELINES)
    if isinstance(problem, PrefillProblem):
        return ("sdpa",)
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
    if isinstance(problem, PrefillProblem) and road == "sdpa":
        return [by_heads(problem, inputs, example)]
    return run_portable(problem, inputs, example)


def by_heads(problem: PrefillProblem, inputs: Mapping[str, Any], example: Example) -> mx.array:
    """What a cache does with a prompt chunk: a few heads at a time, each group after the last."""
    store = packed(problem, inputs, example)
    tokens = max(row.tiles * TILE + row.exact for row in store.rows)
    keys, values = (
        mx.broadcast_to(x[:, :, :1], (*x.shape[:2], tokens, x.shape[3]))  # for their shapes
        for x in (store.exact_keys, store.exact_values)
    )
    each = heads_at_a_time(keys, values, GROUP_BYTES)
    gqa = problem.heads // problem.kv_heads
    parts: list[mx.array] = []
    for first in range(0, problem.kv_heads, each):
        own = store.heads(slice(first, first + each))
        if parts:
            words = mx.depends([own.key_words, own.value_words], parts[-1:])
            own = own._replace(key_words=words[0], value_words=words[1])
        rows = slice(first * gqa, (first + each) * gqa)
        sinks = inputs["sinks"][rows] if problem.sinks else None
        q = inputs["queries"][:, rows]
        parts.append(attend_dequantized(q, own, scale=problem.key_dim**-0.5, sinks=sinks))
    return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=1)


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


def packed(
    problem: AttendProblem | PrefillProblem, inputs: Mapping[str, Any], example: Example
) -> Packed:
    """The example's inputs as the store that a cache would hand over."""
    names = ("key_words", "key_scales", "value_words", "value_scales")
    numbers = example.inputs["params"]
    leading = gone = 0
    if isinstance(problem, AttendProblem):
        rows = rows_of(numbers)
        leading, gone = (int(n) for n in numbers[HEADER - 2 : HEADER])
    else:
        rows = [Row(*row) for row in prefill.rows_held(numbers)]
    nothing = no_tiles(problem.batch, problem.kv_heads)
    words = {name: inputs.get(name, nothing[name.endswith("scales")]) for name in names}
    return Packed(
        **words,
        exact_keys=inputs["exact_keys"],
        exact_values=inputs["exact_values"],
        rows=tuple(rows),
        key_bits=problem.key_bits,
        value_bits=problem.value_bits,
        key_seed=SEED,
        value_seed=SEED + 1,
        codebook=problem.codebook,
        storage=problem.storage,
        centre=inputs["key_centre"],
        leading=leading,
        gone=gone,
    )


def verify(problem: Problem, example: Example, outputs: list[mx.array]) -> Verification:
    arrays = [to_numpy(array) for array in outputs]
    if isinstance(problem, AttendProblem | PrefillProblem):
        # MLX multiplies float32 in TF32 on NVIDIA, and a road may work in the model's dtype.
        tolerance = {"float32": 4e-3, "float16": 4e-3, "bfloat16": 3e-2}[problem.dtype]
        if isinstance(problem, AttendProblem):
            expected = expected_output(problem, example)
        else:
            expected = prefill.expected_output(problem, example)
            tolerance *= 2  # the worst of many more rows
        return relative_l2(arrays[0], expected, tolerance)
    family = FAMILIES[family_of(problem)]
    named: dict[str, Any] = dict(zip(family.outputs, arrays, strict=True))
    return family.verify(problem, example, named)
