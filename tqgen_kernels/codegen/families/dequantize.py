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
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs

_SEED = 42
_TOLERANCE = {"float32": 2e-6, "float16": 5e-4, "bfloat16": 4e-3}  # rounding of the output


def _context(p: DequantizeProblem, config: Config) -> dict[str, Any]:
    m, power = factor(p.head_dim)
    return {
        "head_dim": p.head_dim,
        "bits": p.bits,
        "layout": p.layout,
        "rotated": p.rotated,
        "scalar": vectors.SCALARS[p.dtype],
        "tile_words": vectors.tile_words(p.head_dim, p.bits, p.layout),
        "hadamard": vectors.HADAMARD[str(config["threads"])],
        "m": m,
        "power": power,
        "centroids": list(codebook(p.head_dim, p.bits, p.codebook)),
        "hadamard_columns": vectors.hadamard_rows(p.head_dim, transposed=True),
    }


def _launch(
    p: DequantizeProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads = shapes["words"][:2]
    tiles = scalars["tiles"]
    group = vectors.threadgroup(p, config)
    return Launch(
        grid=(group[0] * tiles, group[1] * batch * heads, 1),
        threadgroup=group,
        output_shapes=((batch, heads, tiles * TILE, p.head_dim),),
        output_dtypes=(p.dtype,),
    )


def _threadgroup_memory(p: DequantizeProblem, config: Config) -> int:
    if config["threads"] == "serial":
        return 0
    rotates = config["threads"] == "parallel" and not p.rotated
    staged = p.head_dim * int(config["at_once"]) if rotates else 0
    words = vectors.tile_words(p.head_dim, p.bits, p.layout)
    return 4 * (words + (1 << p.bits) + staged)


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
    return vectors.relative_l2(outputs["out"], expected, _TOLERANCE[p.dtype])


def _bytes_moved(p: DequantizeProblem) -> int:
    rows = p.batch * p.kv_heads * p.context
    item = 4 if p.dtype == "float32" else 2
    return rows * (p.head_dim * item + p.head_dim * p.bits // 8 + 2)


DEQUANTIZE = Family(
    name="dequantize",
    problem=DequantizeProblem,
    template="dequantize/{threads}.metal.jinja",
    inputs=("words", "scales", "signs", "params"),
    outputs=("out",),
    tunables=lambda p: (vectors.THREADS, vectors.AT_ONCE),
    restrictions=vectors.RESTRICTIONS,
    default=vectors.default_config,
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=_bytes_moved,
)
