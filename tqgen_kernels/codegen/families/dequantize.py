"""dequantize: unpack, centroid, un-rotate, scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import vectors
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Arrays, Example, Family, Verification
from tqgen_kernels.codegen.problem import DequantizeProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import reference
from tqgen_kernels.quant.codebook import codebook
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs

_SEED = 42
TOLERANCE = {"float32": 2e-6, "float16": 5e-4, "bfloat16": 4e-3}  # rounding of the output


def _context(p: DequantizeProblem, config: Config) -> dict[str, Any]:
    window = 8 if p.bits <= 4 and p.head_dim % 8 == 0 else 4  # codes that fit a word
    return vectors.context(p, config, layout=p.layout, transposed=True) | {
        "rotated": p.rotated,
        "window": window,
        "table_bits": "BITS",
        "centroids": list(codebook(p.head_dim, p.bits, p.codebook)),
    }


def _launch(
    p: DequantizeProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads = shapes["words"][:2]
    tiles = scalars["tiles"]
    grid, threadgroup = vectors.geometry(config, tiles, batch * heads)
    return Launch(
        grid=grid,
        threadgroup=threadgroup,
        output_shapes=((batch, heads, tiles * TILE, p.head_dim),),
        output_dtypes=(p.dtype,),
    )


def _threadgroup_memory(p: DequantizeProblem, config: Config) -> int:
    return TILE * vectors.code_stride(p.head_dim) + 4 * (1 << p.bits)


def _example(
    p: DequantizeProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    """Random codes, every one of them, in a buffer with room for one tile more than is read."""
    tiles = max(1, (tokens or p.context) // TILE)
    lead = (p.batch, p.kv_heads, tiles + 1)
    tile = vectors.tile_shape(p.head_dim, p.bits, p.layout)
    scales = np.exp(rng.uniform(-3, 3, (*lead, TILE)))
    inputs = {
        "words": rng.integers(0, 2**32, (*lead, *tile), np.uint32),
        "scales": scales.astype(np.float16),
        "signs": signs(p.head_dim, _SEED),
        "params": vectors.params(tiles, tiles + 1),
    }
    return Example(inputs, {"tiles": tiles}, {})


def _verify(p: DequantizeProblem, example: Example, outputs: Arrays) -> Verification:
    tiles = example.scalars["tiles"]
    words = example.inputs["words"][:, :, :tiles]
    codes = unpack_tiles(words, p.head_dim, p.bits, p.layout)
    scales = example.inputs["scales"][:, :, :tiles].reshape(codes.shape[:-1])
    encoded = reference.Encoded(codes, scales)
    if p.rotated:
        expected = reference.decode_rotated(encoded, p.bits, codebook=p.codebook)
    else:
        expected = reference.decode(encoded, p.bits, _SEED, codebook=p.codebook)
    return vectors.relative_l2(outputs["out"], expected, TOLERANCE[p.dtype])


DEQUANTIZE = Family(
    name="dequantize",
    problem=DequantizeProblem,
    template="dequantize/dequantize.metal.jinja",
    inputs=("words", "scales", "signs", "params"),
    outputs=("out",),
    tunables=vectors.tunables,
    restrictions=vectors.RESTRICTIONS,
    default=lambda p: vectors.default_config(p, per_lane=32),
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=vectors.bytes_moved,
)
