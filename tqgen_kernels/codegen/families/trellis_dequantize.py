"""trellis_dequantize: unpack, the value of each window of a stream, un-rotate, scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import dequantize, vectors
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Arrays, Example, Family, Tunable, Verification
from tqgen_kernels.codegen.problem import TrellisDequantizeProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import trellis
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs, unrotate

_SEED = 42
_VALUE = Tunable("value", ("polynomial", "table"), "how a window becomes a number")


def _context(p: TrellisDequantizeProblem, config: Config) -> dict[str, Any]:
    code = trellis.trellis_of(p.bits)
    return vectors.context(p, config, layout="trellis", transposed=True) | {
        "rotated": False,
        "table_bits": "WINDOW_BITS" if config["value"] == "table" else None,
        "centroids": list(trellis.values(p.bits)),
        "window_bits": code.window,
        "steps": code.steps,
        "coefficients": code.coefficients,
    }


def _threadgroup_memory(p: TrellisDequantizeProblem, config: Config) -> int:
    table = 4 << trellis.trellis_of(p.bits).window if config["value"] == "table" else 0
    return TILE * vectors.code_stride(p.head_dim) + table


def _launch(
    p: TrellisDequantizeProblem,
    config: Config,
    shapes: Mapping[str, Shape],
    scalars: Mapping[str, int],
) -> Launch:
    batch, heads = shapes["words"][:2]
    grid, threadgroup = vectors.geometry(config, scalars["tiles"], batch * heads)
    return Launch(
        grid=grid,
        threadgroup=threadgroup,
        output_shapes=((batch, heads, scalars["tiles"] * TILE, p.head_dim),),
        output_dtypes=(p.dtype,),
    )


def _example(
    p: TrellisDequantizeProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    """Random codes, every one of them, in a buffer with room for one tile more than is read."""
    tiles = max(1, (tokens or p.context) // TILE)
    lead = (p.batch, p.kv_heads, tiles + 1)
    tile = vectors.tile_shape(p.head_dim, p.bits, "key")
    inputs = {
        "words": rng.integers(0, 2**32, (*lead, *tile), np.uint32),
        "scales": np.exp(rng.uniform(-3, 3, (*lead, TILE))).astype(np.float16),
        "signs": signs(p.head_dim, _SEED),
        "params": vectors.params(tiles, tiles + 1),
    }
    return Example(inputs, {"tiles": tiles}, {})


def _verify(p: TrellisDequantizeProblem, example: Example, outputs: Arrays) -> Verification:
    tiles = example.scalars["tiles"]
    codes = unpack_tiles(example.inputs["words"][:, :, :tiles], p.head_dim, p.bits, "key")
    scales = example.inputs["scales"][:, :, :tiles].reshape(codes.shape[:-1]).astype(np.float64)
    expected = unrotate(trellis.centroids(codes, p.bits) * scales[..., None], _SEED)
    return vectors.relative_l2(outputs["out"], expected, dequantize.TOLERANCE[p.dtype])


TRELLIS_DEQUANTIZE = Family(
    name="trellis_dequantize",
    problem=TrellisDequantizeProblem,
    template="dequantize/dequantize.metal.jinja",
    inputs=("words", "scales", "signs", "params"),
    outputs=("out",),
    tunables=lambda p: (*vectors.tunables(p), _VALUE),
    restrictions=vectors.RESTRICTIONS,
    default=lambda p: Config.of(
        **vectors.default_config(p, per_lane=32).mapping, value="polynomial"
    ),
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=vectors.bytes_moved,
)
