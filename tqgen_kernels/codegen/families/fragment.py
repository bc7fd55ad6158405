"""attend over fragment storage: what differs from tiles, for the 8x8 matrix unit."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.families import scoring, vectors
from tqgen_kernels.codegen.family import Restriction, Tunable, Verification
from tqgen_kernels.codegen.half_polynomial import half_polynomial
from tqgen_kernels.codegen.problem import AttendProblem
from tqgen_kernels.codegen.space import MAX_THREADGROUP_MEMORY
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.hadamard import factor

Float64: TypeAlias = NDArray[np.float64]

_LAYOUT = Tunable("layout", ("fragment",), "a lane owns two elements of every 8x8 fragment")
_ROWS = Tunable("rows", (8, 16), "query rows that share one decoding of the codes")
_SIMDGROUPS = Tunable("simdgroups", (4, 8, 2), "SIMD groups of a threadgroup")
_IN_FLIGHT = Tunable(
    "in_flight", (2, 1), "tiles whose key words are in registers: 2 loads the next one's early"
)
_RESIDENT = Tunable(
    "resident",
    (12, 0, 16),
    "SIMD groups that the registers of a core should do for; 0: as the compiler likes. Only CUDA's "
    "compiler takes it",
)
_GROUPS = Tunable(
    "groups",
    (384, 512, 256, 128, 768, 1024),
    "threadgroups aimed at by splitting the tokens; not in the text",
)
TUNABLES = (_LAYOUT, _ROWS, _SIMDGROUPS, _IN_FLIGHT, _RESIDENT, _GROUPS)

RESTRICTIONS = (
    Restriction(
        "16 rows need more than 8 that share a kv head: gqa * q_len",
        lambda p, c: int(c["rows"]) == 8 or p.gqa * p.q_len > 8,
    ),
    Restriction(
        "more than 384 registers of a lane: rows x (key_dim + 2 value_dim) / 16, and the codes",
        lambda p, c: registers(p, c) <= 384,
    ),
)


def registers(p: AttendProblem, config: Config) -> int:
    """Of a lane, for what lives through the loop: queries, outputs and one tile's codes."""
    strips = int(config["rows"]) // 8
    codes = p.key_dim // 32 * p.key_bits + p.value_dim // 32 * p.value_bits
    return strips * (p.key_dim // 8 + 2 * (p.value_dim // 8)) + codes


def context(p: AttendProblem, config: Config) -> dict[str, Any]:
    m, power = factor(p.key_dim)
    return {
        "template": "fragment",
        "key_dim": p.key_dim,
        "key_bits": p.key_bits,
        "key_tile_words": vectors.tile_words(p.key_dim, p.key_bits, "key_fragment"),
        "key_polynomial": half_polynomial(p.key_dim, p.key_bits, side_kind(p.codebook, "key")),
        "value_dim": p.value_dim,
        "value_bits": p.value_bits,
        "value_tile_words": vectors.tile_words(p.value_dim, p.value_bits, "value_fragment"),
        "value_polynomial": half_polynomial(
            p.value_dim, p.value_bits, side_kind(p.codebook, "value")
        ),
        "m": m,
        "power": power,
        "hadamard_rows": vectors.hadamard_rows(p.key_dim, transposed=False),
        "q_len": p.q_len,
        "fresh": p.fresh,
        "gqa": p.gqa,
        "head_rows": p.gqa * p.q_len,
        "passes": scoring.passes(p, config),
        "regions": regions(p, config),
        "scalar": vectors.SCALARS[p.dtype],
        "mask": p.mask,
        "value_threshold": p.value_threshold,
    }


def regions(p: AttendProblem, config: Config) -> int:
    """Copies of the accumulator in threadgroup memory: one a SIMD group where 32 KiB allow."""
    count = int(config["simdgroups"])
    while count > 1 and _memory(p, config, count) > MAX_THREADGROUP_MEMORY:
        count //= 2
    return count


def threadgroup_memory(p: AttendProblem, config: Config) -> int:
    return _memory(p, config, regions(p, config))


def _memory(p: AttendProblem, config: Config, regions: int) -> int:
    rows, simdgroups = int(config["rows"]), int(config["simdgroups"])
    staged = max(rows * p.key_dim, regions * rows * (p.value_dim + 4))
    return 4 * (staged + rows + 2 * simdgroups * rows)


def verification(actual: Float64, expected: Float64) -> Verification:
    """Of half operands. A score of 16 (log2 units) is off by 2e-3 where the query's halves are
    unlucky, so that a single row may be worse than all are together."""
    rows = vectors.relative_l2(actual, expected, 0.0).error
    together = vectors.relative_l2(actual.reshape(1, -1), expected.reshape(1, -1), 0.0).error
    measure = "relative L2 of all rows, or a third of the worst row's"
    return Verification(max(together, rows / 3), 2e-3, measure)


def default(p: AttendProblem) -> Config:
    config = Config.of(
        layout="fragment", rows=8, simdgroups=4, in_flight=2, resident=12, groups=384
    )
    # Of NVIDIA's 65536 registers a core 12 SIMD groups have 168 a lane: some 90 more than these.
    return config if registers(p, config) <= 80 else Config.of(**{**config.mapping, "resident": 0})
