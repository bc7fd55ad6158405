"""qk_scores: scores of packed keys without materialising them."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import scoring, vectors
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Arrays, Example, Family, Verification
from tqgen_kernels.codegen.problem import QKScoresProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import reference
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs


def _context(p: QKScoresProblem, config: Config) -> dict[str, Any]:
    return scoring.context(p, config, p.head_dim, p.bits)


def _launch(
    p: QKScoresProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads, q_len, _ = shapes["queries"]
    tiles, simdgroups = scalars["tiles"], int(config["simdgroups"])
    pairs = batch * heads // p.gqa * scoring.passes(p, config)
    return Launch(
        grid=(TILE * simdgroups, ceil(tiles / simdgroups), pairs),
        threadgroup=(TILE * simdgroups, 1, 1),
        output_shapes=((batch, heads, q_len, tiles * TILE),),
        output_dtypes=("float32",),
    )


def _threadgroup_memory(p: QKScoresProblem, config: Config) -> int:
    table = 4 << p.bits if config["lookup"] == "threadgroup" else 0
    copies = 2 if config["layout"] == "token" else 1
    return 4 * int(config["rows"]) * p.head_dim * copies + table


def _example(
    p: QKScoresProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    tiles = max(1, (tokens or p.context) // TILE)
    words, scales = scoring.example_tiles(p, p.head_dim, p.bits, "key", tiles, rng)
    scale = p.head_dim**-0.5
    inputs = {
        "queries": scoring.example_queries(p, p.head_dim, rng),
        "key_words": words,
        "key_scales": scales,
        "signs": signs(p.head_dim, scoring.KEY_SEED),
        "params": vectors.params(tiles, tiles + 1, 0, 0, 0, scoring.scale_bits(scale)),
    }
    return Example(inputs, {"tiles": tiles}, {"queries": p.dtype})


def _verify(p: QKScoresProblem, example: Example, outputs: Arrays) -> Verification:
    tiles = example.scalars["tiles"]
    codes = unpack_tiles(example.inputs["key_words"][:, :, :tiles], p.head_dim, p.bits, "key")
    scales = example.inputs["key_scales"][:, :, :tiles].reshape(codes.shape[:-1])
    keys = reference.decode(
        reference.Encoded(codes, scales), p.bits, scoring.KEY_SEED, codebook=p.codebook
    )
    queries = np.asarray(example.inputs["queries"], np.float64)
    expected = queries @ np.repeat(keys, p.gqa, axis=1).swapaxes(-1, -2) * p.head_dim**-0.5
    return vectors.relative_l2(outputs["scores"], expected, 2e-5)


def _bytes_moved(p: QKScoresProblem) -> int:
    rows = p.batch * p.kv_heads * p.context
    return rows * (p.head_dim * p.bits // 8 + 2 + 4 * p.gqa * p.q_len)


def _default(p: QKScoresProblem) -> Config:
    rows = min(4 if p.head_dim > 256 else 8, 1 << (p.gqa * p.q_len - 1).bit_length())
    return Config.of(layout="token", lookup="threadgroup", rows=rows, simdgroups=4)


QK_SCORES = Family(
    name="qk_scores",
    problem=QKScoresProblem,
    template="qk_scores/scores.metal.jinja",
    inputs=("queries", "key_words", "key_scales", "signs", "params"),
    outputs=("scores",),
    tunables=lambda p: (scoring.LAYOUT, scoring.LOOKUP, scoring.ROWS, scoring.SIMDGROUPS),
    restrictions=scoring.lookup_restrictions("bits"),
    default=_default,
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=_bytes_moved,
)
