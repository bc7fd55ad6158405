"""trellis_encode: normalise, rotate, the best sequence of trellis codes (Viterbi), pack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import vectors
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Arrays, Example, Family, Tunable, Verification
from tqgen_kernels.codegen.problem import TrellisEncodeProblem
from tqgen_kernels.codegen.space import MAX_THREADGROUP_MEMORY
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import reference, trellis
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import rotate, signs

_SEED = 42  # of examples; the kernel takes the signs as an input
_AT_ONCE = Tunable("at_once", (8, 32, 4), "vectors of a tile that a threadgroup works on at a time")


def _context(p: TrellisEncodeProblem, config: Config) -> dict[str, Any]:
    return vectors.context(p, config, layout="key", transposed=False) | {
        "streams": trellis.STREAMS,
        "states": trellis.trellis_of(p.bits).states,
        "values": list(trellis.values(p.bits)),
    }


def _launch(
    p: TrellisEncodeProblem,
    config: Config,
    shapes: Mapping[str, Shape],
    scalars: Mapping[str, int],
) -> Launch:
    batch, heads, tokens, _ = shapes["x"]
    tiles = tokens // TILE
    grid, threadgroup = vectors.geometry(config, tiles, batch * heads)
    return Launch(
        grid=grid,
        threadgroup=threadgroup,
        output_shapes=(
            (batch, heads, tiles, *vectors.tile_shape(p.head_dim, p.bits, "key")),
            (batch, heads, tiles, TILE),
        ),
        output_dtypes=("uint32", "float16"),
    )


def _threadgroup_memory(p: TrellisEncodeProblem, config: Config) -> int:
    floats = int(config["at_once"]) * (p.head_dim + trellis.STREAMS)
    return 4 * floats + TILE * vectors.code_stride(p.head_dim)


def _example(
    p: TrellisEncodeProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    tiles = max(1, (tokens or p.context) // TILE)
    x = vectors.to_dtype(vectors.example_vectors(p, rng, tiles), p.dtype)
    inputs = {"x": x, "signs": signs(p.head_dim, _SEED), "params": vectors.params(tiles)}
    return Example(inputs, {"tiles": tiles}, {"x": p.dtype})


def _default(p: TrellisEncodeProblem) -> Config:
    """Eight vectors at a time, or what a SIMD group or the threadgroup memory asks for."""
    lanes = int(vectors.default_config(p, per_lane=8)["lanes"])
    configs = [Config.of(lanes=lanes, at_once=n) for n in (8, 4, 32) if lanes * n >= TILE]
    return next(c for c in configs if _threadgroup_memory(p, c) <= MAX_THREADGROUP_MEMORY)


def _verify(p: TrellisEncodeProblem, example: Example, outputs: Arrays) -> Verification:
    """The worst of: by how much the chosen values of a vector are farther than the nearest
    ones, in variances of a coordinate; the relative error of a scale. Both must be within
    what float32, whose lowest bits hold the choices, and fp16 round."""
    x = np.asarray(example.inputs["x"], np.float64)
    codes = unpack_tiles(outputs["words"], p.head_dim, p.bits, "key")
    finite = np.asarray(np.isfinite(x).all(-1))
    x = np.where(finite[..., None], x, 0.0)
    norm = np.sqrt((x * x).sum(-1))
    y = rotate(x / np.where(norm > 0, norm, 1.0)[..., None], _SEED) * p.head_dim**0.5
    chosen = trellis.centroids(codes, p.bits)
    best = trellis.centroids(trellis.nearest(y, p.bits), p.bits)
    farther = ((chosen - y) ** 2).sum(-1) - ((best - y) ** 2).sum(-1)

    scales = np.asarray(outputs["scales"], np.float64).reshape(finite.shape)
    ideal = np.minimum(norm / np.sqrt((chosen**2).sum(-1)), reference.MAX_SCALE)
    relative = np.abs(scales - ideal) / np.maximum(ideal, 2.0**-14)  # fp16 is subnormal below
    wrong_nan = np.isnan(scales) == finite
    error = np.where(wrong_nan, np.inf, np.where(finite, relative / 2.0**-10, 0.0))
    worst = max(float(error.max()), float(farther.max()) / (p.head_dim * 1e-5))
    return Verification(worst, 1.0, "farther than the nearest / 1e-5 d, scale error / 2^-10")


TRELLIS_ENCODE = Family(
    name="trellis_encode",
    problem=TrellisEncodeProblem,
    template="trellis/encode.metal.jinja",
    inputs=("x", "signs", "params"),
    outputs=("words", "scales"),
    tunables=lambda p: (vectors.LANES, _AT_ONCE),
    restrictions=vectors.RESTRICTIONS,
    default=_default,
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=vectors.bytes_moved,
)
