"""What qk_scores and attend share: rows of queries against tiles of packed keys."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np

from tqgen_kernels.codegen.families import vectors
from tqgen_kernels.codegen.family import Restriction, Tunable
from tqgen_kernels.codegen.problem import EXACT
from tqgen_kernels.codegen.space import MAX_THREADS
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.quant.codebook import codebook, side_kind
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.packing import TILE

KEY_SEED, VALUE_SEED = 42, 43  # of examples; the kernels take the signs as inputs

LAYOUT = Tunable(
    "layout", ("token", "dim"), "who scores: a lane owns a token, or lanes share the coordinates"
)
LOOKUP = Tunable(
    "lookup",
    ("threadgroup", "constant", "select", "shuffle", "magnitude"),
    "how a code becomes a centroid: a copy in threadgroup memory, a constant array, a chain of "
    "selects, another lane's register, or half a constant array and a sign",
)
ROWS = Tunable("rows", (8, 4, 2, 1), "query rows that share one read of the codes")
SIMDGROUPS = Tunable("simdgroups", (4, 8, 2), "SIMD groups of a threadgroup")


def lookup_restrictions(*bits: str) -> tuple[Restriction, ...]:
    def most(problem: Any) -> int:
        packed = (int(getattr(problem, name)) for name in bits)
        return max(n for n in packed if n != EXACT)

    return (
        Restriction(
            "a shuffled codebook has at most 32 entries, one a lane",
            lambda p, c: c["lookup"] != "shuffle" or most(p) <= 5,
        ),
        Restriction(
            "a chain of selects has at most 16 ends",
            lambda p, c: c["lookup"] != "select" or most(p) <= 4,
        ),
        Restriction(
            "lanes share the coordinates of keys that are not packed",
            lambda p, c: c["layout"] == "dim" or getattr(p, "key_bits", 1) != EXACT,
        ),
        Restriction(
            "rows beyond the next power of two of gqa * q_len stay empty",
            lambda p, c: int(c["rows"]) < 2 * p.gqa * p.q_len,
        ),
        Restriction(
            f"32 x simdgroups is more than {MAX_THREADS} threads",
            lambda p, c: TILE * int(c["simdgroups"]) <= MAX_THREADS,
        ),
    )


def passes(problem: Any, config: Config) -> int:
    """How often the codes are read: rows that share a kv head over rows of a pass."""
    return ceil(int(problem.gqa) * int(problem.q_len) / int(config["rows"]))


def context(problem: Any, config: Config, key_dim: int, key_bits: int) -> dict[str, Any]:
    """What both templates see. key_bits is 0 there where the keys are not packed."""
    m, power = factor(key_dim)
    packed: dict[str, Any] = {"key_bits": 0}
    if key_bits != EXACT:
        packed = {
            "key_bits": key_bits,
            "key_tile_words": vectors.tile_words(key_dim, key_bits, "key"),
            "key_centroids": list(codebook(key_dim, key_bits, side_kind(problem.codebook, "key"))),
        }
    return {
        **packed,
        "key_dim": key_dim,
        "m": m,
        "power": power,
        "hadamard_rows": vectors.hadamard_rows(key_dim, transposed=False),
        "head_rows": problem.gqa * problem.q_len,
        "passes": passes(problem, config),
    }


def scale_bits(scale: float) -> int:
    """A float32's bits as an int32: how a float travels in `params`."""
    return int(np.float32(scale).view(np.int32))


def example_queries(
    problem: Any, dim: int, rng: np.random.Generator
) -> np.ndarray[Any, np.dtype[Any]]:
    """(batch, kv_heads * gqa, q_len, dim), rounded to the problem's dtype."""
    shape = (problem.batch, problem.kv_heads * problem.gqa, problem.q_len, dim)
    return vectors.to_dtype(rng.standard_normal(shape, np.float32), problem.dtype)


def example_tiles(
    problem: Any, dim: int, bits: int, layout: str, tiles: int, rng: np.random.Generator
) -> tuple[np.ndarray[Any, np.dtype[Any]], np.ndarray[Any, np.dtype[Any]]]:
    """Random words and fp16 scales, with room for one tile more than is used."""
    lead = (problem.batch, problem.kv_heads, tiles + 1)
    words = rng.integers(0, 2**32, (*lead, *vectors.tile_shape(dim, bits, layout)), np.uint32)
    scales = np.exp(rng.uniform(-1, 1, (*lead, TILE))).astype(np.float16)
    return words, scales
