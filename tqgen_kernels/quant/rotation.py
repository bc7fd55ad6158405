"""Randomised Hadamard rotation: R = (1 / sqrt(d)) H diag(signs), an orthogonal matrix.

TurboQuant (arXiv 2504.19874, section 3) rotates at random so that every coordinate of a unit
vector follows one known density; a Hadamard matrix with random signs does so in d log d steps.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.quant.hadamard import factor, hadamard

_MASK = (1 << 64) - 1


def _splitmix64(state: int) -> int:
    """Our own generator: the signs of a stored cache must not change with NumPy's version."""
    z = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


@lru_cache(maxsize=64)
def signs(dim: int, seed: int) -> NDArray[np.float32]:
    """The (dim,) vector of +-1 that `seed` stands for, float32, read-only."""
    factor(dim)
    words = [_splitmix64((seed << 20) + i) for i in range((dim + 63) // 64)]
    bits = [words[i // 64] >> (i % 64) & 1 for i in range(dim)]
    values = np.where(np.array(bits, dtype=bool), 1.0, -1.0).astype(np.float32)
    values.flags.writeable = False
    return values


@lru_cache(maxsize=32)
def rotation(dim: int, seed: int) -> NDArray[np.float64]:
    """R as a (dim, dim) float64 matrix, read-only: y = R x."""
    matrix: NDArray[np.float64] = hadamard(dim) * signs(dim, seed).astype(np.float64) / dim**0.5
    matrix.flags.writeable = False
    return matrix


def rotate(x: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """R x along the last axis of x (..., dim), float64."""
    return np.asarray(x, np.float64) @ rotation(x.shape[-1], seed).T


def unrotate(y: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """R^T y along the last axis of y (..., dim), float64: the inverse of `rotate`."""
    return np.asarray(y, np.float64) @ rotation(y.shape[-1], seed)
