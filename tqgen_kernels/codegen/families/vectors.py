"""What encoding and dequantising share: who computes a vector, and the vectors to try."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.family import Restriction, Tunable, Verification
from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.space import MAX_THREADS
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.quant.hadamard import base_matrix, factor
from tqgen_kernels.quant.packing import TILE, words_per_vector

SCALARS = {"float32": "float", "float16": "half", "bfloat16": "bfloat"}
MIN_PER_LANE, MAX_PER_LANE = 4, 128  # coordinates
Dims: TypeAlias = tuple[int, int, int]

LANES = Tunable("lanes", (8, 4, 16, 32, 2, 1), "lanes of a SIMD group that share a vector")
AT_ONCE = Tunable("at_once", (32, 8), "vectors of a tile that a threadgroup works on at a time")


def tunables(problem: Problem) -> tuple[Tunable, ...]:
    return LANES, AT_ONCE


def _threads(config: Config) -> int:
    return int(config["lanes"]) * int(config["at_once"])


def _share(problem: Any, config: Config) -> bool:
    """Whether the lanes of a vector hold runs of one length, four coordinates side by side."""
    lanes = int(config["lanes"])
    return lanes == 1 or factor(problem.head_dim)[1] % max(lanes, 4) == 0


RESTRICTIONS = (
    Restriction(
        "lanes x at_once is less than a SIMD group",
        lambda p, c: _threads(c) >= TILE,
    ),
    Restriction(
        f"lanes x at_once is more than {MAX_THREADS} threads",
        lambda p, c: _threads(c) <= MAX_THREADS,
    ),
    Restriction(
        "the power of two in head_dim is no multiple of lanes, or of 4",
        _share,
    ),
    Restriction(
        f"a lane holds {MIN_PER_LANE} to {MAX_PER_LANE} coordinates",
        lambda p, c: MIN_PER_LANE <= p.head_dim // int(c["lanes"]) <= MAX_PER_LANE,
    ),
)


def default_config(problem: Any, per_lane: int) -> Config:
    """A whole tile at a time, by the most lanes that leave each at least per_lane coordinates."""
    configs = [Config.of(lanes=lanes, at_once=TILE) for lanes in (32, 16, 8, 4, 2)]
    wide = [
        c for c in configs if _share(problem, c) and problem.head_dim // int(c["lanes"]) >= per_lane
    ]
    return wide[0] if wide else Config.of(lanes=1, at_once=TILE)


def run(head_dim: int, lanes: int) -> int:
    """Neighbouring coordinates that a lane holds: 8 where the Hadamard transform allows it."""
    if lanes == 1:
        return 8 if head_dim % 8 == 0 else 4
    return min(8, factor(head_dim)[1] // lanes)


def context(problem: Any, config: Config, *, layout: str, transposed: bool) -> dict[str, Any]:
    """What all templates see; the Hadamard matrix transposed where the rotation is undone."""
    m, power = factor(problem.head_dim)
    lanes = int(config["lanes"])
    name = "hadamard_columns" if transposed else "hadamard_rows"
    return {
        "head_dim": problem.head_dim,
        "bits": problem.bits,
        "layout": layout,
        "scalar": SCALARS[problem.dtype],
        "tile_words": tile_words(problem.head_dim, problem.bits, layout),
        "run": run(problem.head_dim, lanes),
        "code_stride": code_stride(problem.head_dim),
        "m": m,
        "power": power,
        name: hadamard_rows(problem.head_dim, transposed),
    }


def code_stride(head_dim: int) -> int:
    """Bytes between the staged codes of two tokens: an odd number of words, in most cases."""
    return head_dim + 4


def geometry(config: Config, tiles: int, heads: int) -> tuple[Dims, Dims]:
    """Grid and threadgroup, in threads: a threadgroup a tile and head."""
    lanes, at_once = int(config["lanes"]), int(config["at_once"])
    return (lanes * tiles, at_once * heads, 1), (lanes, at_once, 1)


def bytes_moved(problem: Any) -> int:
    """The vectors once, and their codes and scales once."""
    rows = problem.batch * problem.kv_heads * problem.context
    item = 4 if problem.dtype == "float32" else 2
    dim: int = problem.head_dim
    return int(rows * (dim * item + dim * problem.bits // 8 + 2))


def tile_words(head_dim: int, bits: int, layout: str) -> int:
    """uint32 words of a tile: those of 32 tokens, padded where a stream ends within a word."""
    rows, columns = tile_shape(head_dim, bits, layout)
    return rows * columns


def tile_shape(head_dim: int, bits: int, layout: str) -> tuple[int, int]:
    """The last two axes of a tile's words."""
    return (bits, head_dim) if layout == "value" else (words_per_vector(head_dim, bits), TILE)


def hadamard_rows(head_dim: int, transposed: bool) -> list[int]:
    """Rows of H_m (or of its transpose) as bit masks, most significant bit first."""
    m, _ = factor(head_dim)
    matrix = base_matrix(m).T if transposed else base_matrix(m)
    return [int("".join("1" if v > 0 else "0" for v in row), 2) for row in matrix]


def to_dtype(x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """x as the kernel will see it, in float32 where NumPy has no bfloat16."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)
        return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
    return x.astype(dtype)


def example_vectors(problem: Any, rng: np.random.Generator, tiles: int) -> NDArray[np.float32]:
    """Random vectors (batch, kv_heads, 32 tiles, head_dim) of many lengths, a few of them hard."""
    shape = (problem.batch, problem.kv_heads, tiles * TILE, problem.head_dim)
    x = rng.standard_normal(shape, np.float32)
    x *= np.exp(rng.uniform(-3, 3, (*shape[:-1], 1))).astype(np.float32)
    x[..., 1, :] = 0.0
    x[..., 2, :] = 0.0
    x[..., 2, rng.integers(problem.head_dim)] = 1.0
    return x


def params(*values: int) -> NDArray[np.int32]:
    """Eight int32s: fewer than eight elements would change the address space MLX gives them."""
    out = np.zeros(8, np.int32)
    out[: len(values)] = values
    return out


def relative_l2(actual: Any, expected: NDArray[np.float64], tolerance: float) -> Verification:
    """Worst over rows (last axis) of ||actual - expected|| / ||expected||."""
    actual = np.asarray(actual, np.float64)
    if actual.shape != expected.shape:
        return Verification(np.inf, tolerance, f"shape {actual.shape}, not {expected.shape}")
    error = np.sqrt(((actual - expected) ** 2).sum(-1))
    length = np.sqrt((expected**2).sum(-1))
    worst = error / np.maximum(length, np.finfo(np.float32).tiny)
    return Verification(float(worst.max(initial=0.0)), tolerance, "relative L2, worst row")
