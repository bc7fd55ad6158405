"""Codes to words and back, in the fragment layout: for kernels on the 8x8 matrix unit.

A tile is 32 tokens x dim, dim a multiple of 32. It is cut into fragments of 8 rows x 8 columns:

key fragments    8 tokens (rows) x 8 coordinates (columns)
value fragments  8 coordinates (rows) x 8 tokens (columns)

Storage lane s = row * 4 + pair holds columns 2 * pair and 2 * pair + 1 of its row: a lane's pair of
codes is its pair of elements in the matrix unit. 32 coordinates of all 32 tokens are a *unit*: 16
fragments, hence 16 pairs a lane, in `bits` words. Fragment 4 * block + group of a unit holds
coordinates 8 * block .. 8 * block + 7 of the unit and tokens 8 * group .. 8 * group + 7.

Words of tiles: (..., T/32, dim / 32 * bits, 32) = [unit, word][lane], so that loads coalesce.

A word holds floor(16 / bits) pairs, one bits-wide field for each code in either half of 16 bits;
what is left of the halves holds the bits of the pairs that do not fit. In the half of the first
code, pair i of the word has bits 1 + bits * i and up, and the second code 16 bits higher, both
modulo 32. A set bit below the code makes it 2 code + 1, and an exponent above makes that a half:
one and-or and one subtraction turn both codes of a pair into (2 code + 1 - 2^bits) / 2^bits, with
no shift while the field ends below the mantissa's 10 bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.quant.packing import TILE, Codes, Words, pack, unpack

UNIT = 32  # coordinates of a unit
PAIRS = 16  # of a lane and unit


def check_fragment_dim(dim: int, name: str = "head_dim") -> None:
    """Raises ValueError unless dim is a multiple of 32."""
    if dim % UNIT:
        raise ValueError(
            f"{name} {dim} is not supported with fragment storage: give a multiple of {UNIT}, or "
            "use tiles."
        )


@lru_cache(maxsize=8)
def bit_places(bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where bit k of the first code of pair j lies: word (16, bits) and bit (16, bits) of it."""
    each = 16 // bits
    spare = 16 - each * bits
    pair, bit = np.mgrid[:PAIRS, :bits]
    word, place = pair // each, pair % each * bits + bit
    if spare:  # the other pairs are one stream over the spare bits
        index = (pair - each * bits) * bits + bit
        outside = pair >= each * bits
        word = np.where(outside, index // spare, word)
        place = np.where(outside, 16 - spare + index % spare, place)
    return word, place + 1


def _pack_units(codes: Codes, bits: int) -> Words:
    """Codes (..., 16 pairs, 32 lanes, 2) to words (..., bits, 32)."""
    words = np.zeros((*codes.shape[:-3], bits, TILE), np.uint32)
    for (j, k), word in np.ndenumerate(bit_places(bits)[0]):
        for second in (0, 1):
            shift = np.uint32((bit_places(bits)[1][j, k] + 16 * second) % 32)
            bit = (codes[..., j, :, second] >> np.uint8(k)) & np.uint8(1)
            words[..., word, :] |= bit.astype(np.uint32) << shift
    return words


def _unpack_units(words: Words, bits: int) -> Codes:
    """The inverse of `_pack_units`."""
    codes = np.zeros((*words.shape[:-2], PAIRS, TILE, 2), np.uint8)
    for (j, k), word in np.ndenumerate(bit_places(bits)[0]):
        for second in (0, 1):
            shift = np.uint32((bit_places(bits)[1][j, k] + 16 * second) % 32)
            bit = (words[..., word, :] >> shift) & np.uint32(1)
            codes[..., j, :, second] |= bit.astype(np.uint8) << np.uint8(k)
    return codes


# Axes of a tile's codes as (group, token, unit, block, coordinate), the columns cut in two.
_KEY_SHAPE, _KEY_ORDER = (4, 8, -1, 4, 4, 2), (2, 3, 0, 1, 4, 5)
_VALUE_SHAPE, _VALUE_ORDER = (4, 4, 2, -1, 4, 8), (3, 4, 0, 5, 1, 2)


def _to_fragments(
    words: Words, dim: int, bits: int, shape: tuple[int, ...], order: tuple[int, ...]
) -> Words:
    check_fragment_dim(dim)
    codes = unpack(words, dim, bits)
    *lead, tokens, _ = codes.shape
    lead = [*lead, tokens // TILE]
    axes = (*range(len(lead)), *(len(lead) + axis for axis in order))
    tiles = codes.reshape(*lead, *shape).transpose(axes)
    units = tiles.reshape(*lead, dim // UNIT, PAIRS, TILE, 2)
    return _pack_units(units, bits).reshape(*lead, dim // UNIT * bits, TILE)


def _from_fragments(
    tiles: Words, dim: int, bits: int, shape: tuple[int, ...], order: tuple[int, ...]
) -> Words:
    check_fragment_dim(dim)
    lead = tiles.shape[:-2]
    codes = _unpack_units(tiles.reshape(*lead, dim // UNIT, bits, TILE), bits)
    inverse = tuple(len(lead) + int(axis) for axis in np.argsort(order))
    ordered = tuple(dim // UNIT if shape[axis] < 0 else shape[axis] for axis in order)
    codes = codes.reshape(*lead, *ordered).transpose((*range(len(lead)), *inverse))
    return pack(codes.reshape(*lead[:-1], lead[-1] * TILE, dim), bits)


def to_key_fragments(words: Words, dim: int, bits: int) -> Words:
    """Token-major words (..., T, W) to tiles (..., T/32, dim / 32 * bits, 32) of key fragments.

    Raises ValueError for a dim that is no multiple of 32, and a T that is none.
    """
    return _to_fragments(words, dim, bits, _KEY_SHAPE, _KEY_ORDER)


def from_key_fragments(tiles: Words, dim: int, bits: int) -> Words:
    """The inverse of `to_key_fragments`."""
    return _from_fragments(tiles, dim, bits, _KEY_SHAPE, _KEY_ORDER)


def to_value_fragments(words: Words, dim: int, bits: int) -> Words:
    """Token-major words (..., T, W) to tiles (..., T/32, dim / 32 * bits, 32) of value fragments.

    Raises ValueError for a dim that is no multiple of 32, and a T that is none.
    """
    return _to_fragments(words, dim, bits, _VALUE_SHAPE, _VALUE_ORDER)


def from_value_fragments(tiles: Words, dim: int, bits: int) -> Words:
    """The inverse of `to_value_fragments`."""
    return _from_fragments(tiles, dim, bits, _VALUE_SHAPE, _VALUE_ORDER)
