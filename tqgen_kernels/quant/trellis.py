"""Trellis-coded quantisation: a coordinate's value depends on its code and on the codes after it.

A code of b bits chooses among 2^b values, as a scalar code does, but the codes after it choose
which 2^b values these are, so that all of them together fill space better (Marcellin and Fischer
1990). No state is stored: the value is a function of a window of the codes, and the last windows
of a stream reach round to its beginning (the tail-biting bitshift trellis of QTIP, arXiv
2406.11235).

A vector is 8 streams: coordinate i is number i // 8 of stream i % 8. The other codes of a window
are 8 or 16 coordinates on, hence in the same lane of fragment storage and in the same half of its
words (quant/fragments.py), and no vector needs another. Codes are packed as scalar ones are.

The value is an odd polynomial of y = (2 u + 1) / 2^window - 1, where u is the window's bits after
one or two steps `u ^= (u shifted) & mask`: no table, and shifts work on all codes of a word.
The steps were found by random search; the coefficients have the least distortion for a Gaussian.

A reference for measuring (docs/codes.md): no kernel and no Scheme uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.quant.packing import Codes

Float64 = NDArray[np.float64]

STREAMS = 8
_AT_ONCE = 2**21  # edges of the trellis that one NumPy operation of `nearest` takes


@dataclass(frozen=True)
class Trellis:
    """bits a coordinate; window, in bits: the code itself has the lowest.

    steps: (shift, mask), shift > 0 to the left. coefficients: of y, y^3, y^5, in standard
    deviations of a coordinate.
    """

    bits: int
    window: int
    steps: tuple[tuple[int, int], ...]
    coefficients: tuple[float, ...]

    @property
    def states(self) -> int:
        """What the other codes of a window can be."""
        return 1 << (self.window - self.bits)


TRELLISES = {
    trellis.bits: trellis
    for trellis in (
        Trellis(2, 6, ((5, 0b100000), (3, 0b110000)), (1.5316, -0.7444, 1.7017)),
        Trellis(3, 6, ((1, 0b011110), (3, 0b110000)), (1.6095, -0.8396, 2.0399)),
        Trellis(4, 8, ((3, 0b11110000),), (1.647, -1.3394, 2.7309)),
    )
}


def trellis_of(bits: int) -> Trellis:
    """The trellis of `bits`. Raises ValueError unless there is one."""
    if type(bits) is not int or bits not in TRELLISES:
        raise ValueError(f"bits {bits!r} has no trellis: give 2, 3 or 4.")
    return TRELLISES[bits]


@lru_cache(maxsize=8)
def values(bits: int) -> Float64:
    """The (2^window,) values by window, in standard deviations of a coordinate, read-only."""
    trellis = trellis_of(bits)
    u = np.arange(1 << trellis.window)
    for shift, mask in trellis.steps:
        u ^= (u << shift if shift > 0 else u >> -shift) & mask
    y = (2.0 * u + 1) / (1 << trellis.window) - 1
    found: Float64 = sum(
        (c * y ** (2 * i + 1) for i, c in enumerate(trellis.coefficients)), np.zeros_like(y)
    )
    found.flags.writeable = False
    return found


def windows(codes: Codes, bits: int) -> NDArray[np.int64]:
    """The window (..., d) of every code of vectors (..., d).

    Raises ValueError for a d that is no multiple of 8 or has fewer codes a stream than a window.
    """
    window = trellis_of(bits).window
    check_dim(codes.shape[-1], bits)
    old = codes.astype(np.int64)
    found = np.zeros_like(old)
    for ahead in range(-(-window // bits)):
        found |= np.roll(old, -ahead * STREAMS, axis=-1) << (ahead * bits)
    return found & ((1 << window) - 1)


def centroids(codes: Codes, bits: int) -> Float64:
    """What codes (..., d) stand for, in standard deviations of a coordinate."""
    return values(bits)[windows(codes, bits)]


def nearest(y: NDArray[np.floating], bits: int) -> Codes:
    """The codes (..., d) whose centroids are nearest to y (..., d), stream by stream.

    Exact: Viterbi's algorithm from every state in which a stream can start and end.
    Raises ValueError as `windows` does.
    """
    dim = y.shape[-1]
    check_dim(dim, bits)
    streams = np.asarray(y, np.float64).reshape(-1, dim // STREAMS, STREAMS).swapaxes(1, 2)
    flat = streams.reshape(-1, dim // STREAMS)[:, ::-1]  # last first: a window lies behind
    trellis = trellis_of(bits)
    chunk = max(1, _AT_ONCE >> (2 * trellis.window - bits))
    parts = [_viterbi(flat[i : i + chunk], trellis) for i in range(0, len(flat), chunk)]
    codes = np.concatenate(parts)[:, ::-1].reshape(-1, STREAMS, dim // STREAMS).swapaxes(1, 2)
    return np.ascontiguousarray(codes).reshape(y.shape)


def check_dim(dim: int, bits: int) -> None:
    """Raises ValueError unless vectors of `dim` coordinates have a trellis of `bits`."""
    if dim % STREAMS or dim // STREAMS * bits < trellis_of(bits).window:
        raise ValueError(
            f"head_dim {dim} is not supported by the trellis of {bits} bits: give a multiple of "
            f"{STREAMS} of at least 32."
        )


def _viterbi(x: Float64, trellis: Trellis) -> Codes:
    """Codes (S, n) of streams x (S, n).

    Step by step from the end of a vector's stream to its beginning. Costs are (S, start, state); a
    state is what a window leaves to the next one, its low window - bits bits, and the edges into a
    state differ in the window's high bits alone.
    """
    count, length = x.shape
    states, choices = trellis.states, 1 << trellis.bits
    table = values(trellis.bits).reshape(states, choices)
    costs = np.full((count, states, states), np.inf)
    costs[:, np.arange(states), np.arange(states)] = 0.0
    high = np.empty((length, count, states, states), np.uint8)
    for t in range(length):
        edges = costs[..., None] + ((x[:, t, None, None] - table) ** 2)[:, None]
        into = edges.reshape(count, states, choices, states)
        high[t] = into.argmin(2)
        costs = into.min(2)
    each = np.arange(count)
    start = np.diagonal(costs, axis1=1, axis2=2).argmin(1)
    state, codes = start, np.empty((count, length), np.uint8)
    for t in reversed(range(length)):
        window = high[t, each, start, state].astype(np.int64) * states + state
        codes[:, t] = window & (choices - 1)
        state = window >> trellis.bits
    return codes
