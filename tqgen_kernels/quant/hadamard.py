"""Hadamard matrices of order m * 2^k, m in {1, 12, 20, 28}."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MIN_DIM, MAX_DIM = 32, 512

# The orders 12, 20 and 28 that mx.hadamard_transform uses, one hexadecimal number a row, most
# significant bit first, a set bit for +1. Ours equal MLX's so that both give the same codes.
_ROWS = {
    12: "bff 2aa ec3 896 fb0 a25 cec 989 c3b 962 f0e a58",
    20: (
        "84336 4238b 211d5 108fa 0866d 7c139 ba29c d914e e88a7 f0653 "
        "35a0f 1ad17 8d49b c685d 6343e 49a10 a0d08 54484 2e042 93021"
    ),
    28: (
        "818694c 41c14a6 20e2a13 1071549 0838ae4 041e532 030d299 "
        "3d019d2 1e82ca9 8e43654 c621b2a e210d95 f00a6ca 7807325 "
        "5b3201e ac9900f 564c847 ab24463 d590271 6ac8178 b4640bc "
        "66b70c0 b35b820 d8adc10 6d54e08 37a8704 9ad4382 cd6a181"
    ),
}


def factor(dim: int) -> tuple[int, int]:
    """(m, 2^k) with dim = m * 2^k. Raises ValueError for a head_dim that has no such form."""
    if type(dim) is int and MIN_DIM <= dim <= MAX_DIM:
        for m in (1, *_ROWS):
            power, remainder = divmod(dim, m)
            if not remainder and power & (power - 1) == 0:
                return m, power
    allowed = ", ".join(str(d) for d in supported_dims())
    raise ValueError(
        f"head_dim {dim!r} is not supported: a random Hadamard rotation needs one of {allowed}. "
        "Keep the layers of this size in fp16."
    )


@lru_cache(maxsize=1)
def supported_dims() -> tuple[int, ...]:
    """Every head_dim from 32 to 512 that a rotation exists for, ascending."""
    orders = (1, *_ROWS)
    dims = {m << k for m in orders for k in range(10)}
    return tuple(sorted(d for d in dims if MIN_DIM <= d <= MAX_DIM))


def base_matrix(m: int) -> NDArray[np.int8]:
    """The (m, m) matrix of +-1 of order m in {1, 12, 20, 28}."""
    if m == 1:
        return np.ones((1, 1), np.int8)
    rows = [int(row, 16) for row in _ROWS[m].split()]
    bits = [[row >> (m - 1 - column) & 1 for column in range(m)] for row in rows]
    return (2 * np.array(bits) - 1).astype(np.int8)


@lru_cache(maxsize=32)
def hadamard(dim: int) -> NDArray[np.int8]:
    """The (dim, dim) matrix H of +-1 with H H^T = dim * I; H = H_m kron H_2^k (Sylvester)."""
    m, power = factor(dim)
    matrix = base_matrix(m)
    while power > 1:
        matrix = np.kron(matrix, np.array([[1, 1], [1, -1]], np.int8))
        power //= 2
    matrix.flags.writeable = False
    return matrix
