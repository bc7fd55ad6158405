"""combine: merge the splits of attend, un-rotate the sum once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.families import scoring, vectors
from tqgen_kernels.codegen.family import (
    Arrays,
    Example,
    Family,
    Tunable,
    Verification,
)
from tqgen_kernels.codegen.problem import CombineProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.rotation import signs, unrotate

_SEED = 43
MAX_SPLITS = 512
_SPLITS = 37  # of examples
_KEY_DIM, _SINK_SCALE = 80, 0.15  # of examples with sinks
_TOLERANCE = {"float32": 1e-5, "float16": 5e-4, "bfloat16": 4e-3}  # rounding of the output


def _context(p: CombineProblem, config: Config) -> dict[str, Any]:
    m, power = factor(p.value_dim)
    return {
        "value_dim": p.value_dim,
        "scalar": vectors.SCALARS[p.dtype],
        "held": max(2, min(8, 256 // p.value_dim * 4)),  # in registers
        "sinks": p.sinks,
        "exact": p.exact,
        "m": m,
        "power": power,
        "hadamard_columns": vectors.hadamard_rows(p.value_dim, transposed=True),
    }


def _launch(
    p: CombineProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    rows, _, dim = shapes["partials"]
    parts = int(config["parts"])
    return Launch(
        grid=(32, parts * rows, 1),
        threadgroup=(32, parts, 1),
        output_shapes=((rows, dim),),
        output_dtypes=(p.dtype,),
    )


def _threadgroup_memory(p: CombineProblem, config: Config) -> int:
    return 4 * p.value_dim * int(config["parts"])


def _example(
    p: CombineProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    rows = p.batch * p.heads
    partials = rng.standard_normal((rows, _SPLITS + 1, p.value_dim), np.float32)
    largest = rng.uniform(-10, 10, (rows, _SPLITS + 1))
    largest[0, 1:-1] = -np.inf  # splits that saw nothing
    total = np.where(np.isinf(largest), 0.0, rng.uniform(1, 100, largest.shape))
    partials[np.isinf(largest)] = 0.0
    casts: dict[str, str] = {}
    inputs = {
        "partials": partials,
        "statistics": np.stack([largest, total], -1).astype(np.float32),
        "signs": signs(p.value_dim, _SEED),
        "params": vectors.params(0, 0, 0, 0, 0, 0, _SPLITS),
    }
    if p.sinks:
        q_len = 1 if p.heads % 2 else 2
        heads = p.heads // q_len
        gqa = heads if heads % 2 else heads // 2
        scale = scoring.scale_bits(_SINK_SCALE)
        numbers = (gqa, 0, 0, heads, 0, scale, _SPLITS, q_len, _KEY_DIM)
        inputs["params"] = np.array(numbers, np.int32)
        centre = rng.standard_normal((p.batch, heads // gqa, 1, _KEY_DIM), np.float32)
        queries = rng.standard_normal((p.batch, heads, q_len, _KEY_DIM), np.float32)
        sinks = rng.uniform(-10, 10, heads)
        for name, x in (("sinks", sinks), ("queries", queries), ("centre", centre)):
            inputs[name] = vectors.to_dtype(x, p.dtype)
            casts[name] = p.dtype
    return Example(inputs, {"splits": _SPLITS}, casts)


def _verify(p: CombineProblem, example: Example, outputs: Arrays) -> Verification:
    partials = np.asarray(example.inputs["partials"], np.float64)
    statistics = np.asarray(example.inputs["statistics"], np.float64)
    largest, total = statistics[..., 0], statistics[..., 1]
    weight = np.exp2(largest - largest.max(-1, keepdims=True))
    parts = partials * weight[..., None]
    packed = parts[:, :-1].sum(1)
    merged = (packed if p.exact else unrotate(packed, _SEED)) + parts[:, -1]
    sums = (weight * total).sum(-1, keepdims=True)
    if p.sinks:
        sums += _sink_weights(example.inputs) * np.exp2(-largest.max(-1, keepdims=True))
    expected = merged / sums
    return vectors.relative_l2(outputs["out"], expected, _TOLERANCE[p.dtype])


def _sink_weights(inputs: Arrays) -> NDArray[np.float64]:
    """exp of each row's sink less its share of the centre, (rows, 1)."""
    sinks, q, centre = (np.asarray(inputs[n], np.float64) for n in ("sinks", "queries", "centre"))
    centre = np.repeat(centre, q.shape[1] // centre.shape[1], axis=1)
    scores = sinks[:, None] - _SINK_SCALE * (q * centre).sum(-1)
    weights: NDArray[np.float64] = np.exp(scores).reshape(-1, 1)
    return weights


def _bytes_moved(p: CombineProblem) -> int:
    item = 4 if p.dtype == "float32" else 2
    return p.batch * p.heads * ((_SPLITS + 1) * (p.value_dim + 2) * 4 + p.value_dim * item)


COMBINE = Family(
    name="combine",
    problem=CombineProblem,
    template="combine/combine.metal.jinja",
    inputs=("partials", "statistics", "signs", "params"),
    extra_inputs=lambda p: ("sinks", "queries", "centre") if p.sinks else (),
    outputs=("out",),
    tunables=lambda p: (
        Tunable("parts", (8, 4, 16, 2), "parts of the splits that are added up side by side"),
    ),
    restrictions=(),
    default=lambda p: Config.of(parts=8),
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=_bytes_moved,
)
