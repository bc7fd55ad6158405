"""The fragment layout (quant/fragments.py) in plain MLX."""

from __future__ import annotations

from functools import lru_cache

import mlx.core as mx
import numpy as np

from tqgen_kernels.quant.fragments import PAIRS, UNIT, bit_places
from tqgen_kernels.quant.packing import TILE

# Axes of a tile's codes as (group, token, unit, block, coordinate), the columns cut in two, and
# their order in a tile of fragments: (unit, block, group, row, column / 2, column % 2).
_SHAPES = {"key_fragment": (4, 8, -1, 4, 4, 2), "value_fragment": (4, 4, 2, -1, 4, 8)}
_ORDERS = {"key_fragment": (2, 3, 0, 1, 4, 5), "value_fragment": (3, 4, 0, 5, 1, 2)}


@lru_cache(maxsize=8)
def _sources(bits: int) -> tuple[tuple[mx.array, mx.array], ...]:
    """For each word, what its 32 bits are: which code (pair * 2 + second), and which bit of it."""
    word, place = bit_places(bits)
    source = np.zeros((bits, TILE), np.int32)
    bit = np.zeros((bits, TILE), np.uint32)
    for second in (0, 1):
        at = (place + 16 * second) % 32
        pair, k = np.mgrid[:PAIRS, :bits]
        source[word, at], bit[word, at] = pair * 2 + second, k
    out = tuple((mx.array(s), mx.array(b)[:, None]) for s, b in zip(source, bit, strict=True))
    mx.eval(out)
    return out


def to_fragments(codes: mx.array, bits: int, layout: str) -> mx.array:
    """Codes (B, H, 32 n, D) uint32 to tiles (B, H, n, D / 32 * bits, 32) of fragments."""
    batch, heads, tokens, dim = codes.shape
    lead, units = (batch, heads, tokens // TILE), dim // UNIT
    axes = (0, 1, 2, *(3 + axis for axis in _ORDERS[layout]))
    tiles = codes.reshape(*lead, *_SHAPES[layout]).transpose(axes)
    tiles = tiles.reshape(*lead, units, PAIRS, TILE, 2).swapaxes(-1, -2)
    pairs = tiles.reshape(*lead, units, PAIRS * 2, TILE)
    places = mx.arange(32, dtype=mx.uint32)[:, None]
    words = [
        (((mx.take(pairs, source, axis=-2) >> bit) & 1) << places).sum(-2)
        for source, bit in _sources(bits)
    ]
    return mx.stack(words, axis=-2).reshape(*lead, units * bits, TILE)


def from_fragments(tiles: mx.array, dim: int, bits: int, layout: str) -> mx.array:
    """The inverse of `to_fragments`: codes (B, H, 32 n, D), uint32."""
    batch, heads, count = tiles.shape[:3]
    lead, units = (batch, heads, count), dim // UNIT
    words = tiles.reshape(*lead, units, bits, TILE)
    word, place = bit_places(bits)
    sides = []
    for second in (0, 1):
        side = mx.zeros((*lead, units, PAIRS, TILE), mx.uint32)
        for k in range(bits):
            shift = mx.array(((place[:, k] + 16 * second) % 32).astype(np.uint32))[:, None]
            chosen = mx.take(words, mx.array(word[:, k].astype(np.int32)), axis=-2)
            side = side | (((chosen >> shift) & 1) << k)
        sides.append(side)
    order, shape = _ORDERS[layout], _SHAPES[layout]
    codes = mx.stack(sides, axis=-1).reshape(
        *lead, *(units if shape[axis] < 0 else shape[axis] for axis in order)
    )
    inverse = (0, 1, 2, *(3 + int(axis) for axis in np.argsort(order)))
    return codes.transpose(inverse).reshape(batch, heads, count * TILE, dim)
