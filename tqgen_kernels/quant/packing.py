"""Codes to bits and back, in the three layouts of a cache.

token-major  (..., T, W)          each vector's dim * bits bits as a little-endian stream in
                                  W = ceil(dim * bits / 32) uint32 words: the canonical layout.
key tiles    (..., T/32, W, 32)   the same words, the 32 tokens of a tile side by side: a lane that
                                  owns a token reads coalesced words.
value tiles  (..., T/32, bits, d) each coordinate's 32 codes of a tile as a stream of `bits` words:
                                  a lane that owns a coordinate walks the tile's tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Codes = NDArray[np.uint8]

TILE = 32  # tokens in a tile: the lanes of a SIMD group


def words_per_vector(dim: int, bits: int) -> int:
    """uint32 words that hold dim codes of `bits` bits."""
    return (dim * bits + 31) // 32


def pack(codes: Codes, bits: int) -> Words:
    """Codes (..., n) to their little-endian bit stream (..., ceil(n * bits / 32)), uint32."""
    *lead, n = codes.shape
    bit = (codes[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    stream = np.zeros((*lead, words_per_vector(n, bits) * 32), np.uint8)
    stream[..., : n * bits] = bit.reshape(*lead, n * bits)
    packed = np.packbits(stream, axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")


def unpack(words: Words, n: int, bits: int) -> Codes:
    """The inverse of `pack`: n codes (..., n), uint8."""
    raw = np.ascontiguousarray(words).view(np.uint8)
    stream = np.unpackbits(raw, axis=-1, bitorder="little")[..., : n * bits]
    bit = stream.reshape(*words.shape[:-1], n, bits)
    codes: Codes = (bit << np.arange(bits, dtype=np.uint8)).sum(-1).astype(np.uint8)
    return codes


def to_key_tiles(words: Words) -> Words:
    """Token-major words (..., T, W) to key tiles (..., T/32, W, 32); T a multiple of 32."""
    *lead, tokens, width = words.shape
    tiles = words.reshape(*lead, tokens // TILE, TILE, width)
    return np.ascontiguousarray(tiles.swapaxes(-1, -2))


def from_key_tiles(tiles: Words) -> Words:
    """The inverse of `to_key_tiles`."""
    *lead, count, width, _ = tiles.shape
    return np.ascontiguousarray(tiles.swapaxes(-1, -2)).reshape(*lead, count * TILE, width)


def to_value_tiles(words: Words, dim: int, bits: int) -> Words:
    """Token-major words (..., T, W) to value tiles (..., T/32, bits, dim)."""
    codes = unpack(words, dim, bits)
    *lead, tokens, _ = codes.shape
    tiles = codes.reshape(*lead, tokens // TILE, TILE, dim).swapaxes(-1, -2)
    return np.ascontiguousarray(pack(tiles, bits).swapaxes(-1, -2))


def from_value_tiles(tiles: Words, dim: int, bits: int) -> Words:
    """The inverse of `to_value_tiles`."""
    codes = unpack(tiles.swapaxes(-1, -2), TILE, bits).swapaxes(-1, -2)
    *lead, count, _, _ = tiles.shape
    return pack(np.ascontiguousarray(codes).reshape(*lead, count * TILE, dim), bits)
