"""encode: normalise, rotate, nearest centroid, pack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import vectors
from tqgen_kernels.codegen.family import Arrays, Example, Family, Verification
from tqgen_kernels.codegen.problem import EncodeProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import fragments, packing, reference
from tqgen_kernels.quant.codebook import boundaries, codebook
from tqgen_kernels.quant.packing import TILE, words_per_vector
from tqgen_kernels.quant.rotation import rotate, signs

_SEED = 42  # of examples; the kernel takes the signs as an input


def _context(p: EncodeProblem, config: Config) -> dict[str, Any]:
    return vectors.context(p, config, layout=p.layout, transposed=False) | {
        "norm_correction": p.norm_correction,
        "words": words_per_vector(p.head_dim, p.bits),
        "centroids": list(codebook(p.head_dim, p.bits, p.codebook)),
        "boundaries": list(boundaries(p.head_dim, p.bits, p.codebook)),
    }


def _launch(
    p: EncodeProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads, tokens, _ = shapes["x"]
    tiles = tokens // TILE
    grid, threadgroup = vectors.geometry(config, tiles, batch * heads)
    tile = vectors.tile_shape(p.head_dim, p.bits, p.layout)
    return Launch(
        grid=grid,
        threadgroup=threadgroup,
        output_shapes=((batch, heads, tiles, *tile), (batch, heads, tiles, TILE)),
        output_dtypes=("uint32", "float16"),
    )


def _threadgroup_memory(p: EncodeProblem, config: Config) -> int:
    return TILE * vectors.code_stride(p.head_dim)


def _example(
    p: EncodeProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    tiles = max(1, (tokens or p.context) // TILE)
    x = vectors.to_dtype(vectors.example_vectors(p, rng, tiles), p.dtype)
    inputs = {"x": x, "signs": signs(p.head_dim, _SEED), "params": vectors.params(tiles)}
    return Example(inputs, {"tiles": tiles}, {"x": p.dtype})


def unpack_tiles(words: Any, head_dim: int, bits: int, layout: str) -> packing.Codes:
    """Codes (batch, heads, tokens, head_dim) of tiles in any layout."""
    words = np.asarray(words)
    if layout == "key":
        stream = packing.from_key_tiles(words)
    elif layout == "value":
        stream = packing.from_value_tiles(words, head_dim, bits)
    elif layout == "key_fragment":
        stream = fragments.from_key_fragments(words, head_dim, bits)
    else:
        stream = fragments.from_value_fragments(words, head_dim, bits)
    return packing.unpack(stream, head_dim, bits)


def _verify(p: EncodeProblem, example: Example, outputs: Arrays) -> Verification:
    """The worst of: how much farther a chosen centroid is than the nearest, in standard
    deviations; the relative error of a scale; both must be within float32 and fp16 rounding."""
    x = np.asarray(example.inputs["x"], np.float64)
    codes = unpack_tiles(outputs["words"], p.head_dim, p.bits, p.layout)
    expected = reference.encode(x, p.bits, _SEED, p.norm_correction, codebook=p.codebook)
    finite = np.asarray(np.isfinite(x).all(-1))
    norm = np.sqrt((np.where(finite[..., None], x, 0.0) ** 2).sum(-1, keepdims=True))
    y = np.where(finite[..., None], x, 0.0) / np.where(norm > 0, norm, 1.0)
    y = rotate(y, _SEED) * np.sqrt(p.head_dim)
    table = codebook(p.head_dim, p.bits, p.codebook)
    farther = np.abs(table[codes] - y) - np.abs(table[expected.codes] - y)

    scales = np.asarray(outputs["scales"], np.float64).reshape(finite.shape)
    length = np.sqrt((table[codes] ** 2).sum(-1)) if p.norm_correction else p.head_dim**0.5
    ideal = np.minimum(norm[..., 0] / length, reference.MAX_SCALE)
    relative = np.abs(scales - ideal) / np.maximum(ideal, 2.0**-14)  # fp16 is subnormal below
    wrong_nan = np.isnan(scales) == finite
    error = np.where(wrong_nan, np.inf, np.where(finite, relative / 2.0**-10, 0.0))
    worst = max(float(error.max()), float(farther.max()) / 1e-4)
    return Verification(worst, 1.0, "farthest centroid / 1e-4 sd, scale error / 2^-10")


ENCODE = Family(
    name="encode",
    problem=EncodeProblem,
    template="encode/encode.metal.jinja",
    inputs=("x", "signs", "params"),
    outputs=("words", "scales"),
    tunables=vectors.tunables,
    restrictions=vectors.RESTRICTIONS,
    default=lambda p: vectors.default_config(p, per_lane=16),
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=vectors.bytes_moved,
)
