"""What encode and dequantize share: who computes a vector, and the vectors to try."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.family import Restriction, Tunable, Verification
from tqgen_kernels.codegen.space import MAX_THREADS
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.quant.hadamard import base_matrix, factor
from tqgen_kernels.quant.packing import TILE, words_per_vector

SCALARS = {"float32": "float", "float16": "half", "bfloat16": "bfloat"}

# Which include transforms a vector.
HADAMARD = {"serial": "serial", "parallel": "threadgroup", "simd": "simd"}

THREADS = Tunable(
    "threads",
    ("simd", "parallel", "serial"),
    "who owns a vector: a SIMD group, a thread a coordinate, or one thread",
)
AT_ONCE = Tunable("at_once", (4, 1, 2, 8, 16), "vectors that a threadgroup works on at a time")

RESTRICTIONS = (
    Restriction(
        "a serial threadgroup is one SIMD group: at_once has no meaning",
        lambda p, c: c["threads"] != "serial" or c["at_once"] == 1,
    ),
    Restriction(
        "a SIMD group needs the power of two in head_dim to be at least 32",
        lambda p, c: c["threads"] != "simd" or factor(p.head_dim)[1] >= 32,
    ),
    Restriction(
        f"head_dim x at_once is more than {MAX_THREADS} threads",
        lambda p, c: c["threads"] != "parallel" or p.head_dim * int(c["at_once"]) <= MAX_THREADS,
    ),
)


def default_config(problem: Any) -> Config:
    """The SIMD group layout where it exists, else a thread a coordinate."""
    if factor(problem.head_dim)[1] >= 32:
        return Config.of(threads="simd", at_once=4)
    at_once = 2 if problem.head_dim * 2 <= MAX_THREADS else 1
    return Config.of(threads="parallel", at_once=at_once)


def threadgroup(problem: Any, config: Config) -> tuple[int, int, int]:
    at_once = int(config["at_once"])
    shapes = {
        "serial": (TILE, 1, 1),
        "parallel": (problem.head_dim, at_once, 1),
        "simd": (TILE, at_once, 1),
    }
    return shapes[str(config["threads"])]


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
