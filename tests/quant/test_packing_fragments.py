from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.quant.fragments import (
    bit_places,
    from_key_fragments,
    from_value_fragments,
    to_key_fragments,
    to_value_fragments,
)
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.packing import TILE, pack

DIMS = [dim for dim in supported_dims() if dim % 32 == 0]
BITS = range(1, 9)


def random_words(shape: tuple[int, ...], bits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    codes = np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.uint8)
    return codes, pack(codes, bits)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dim", DIMS)
def test_round_trip(dim: int, bits: int) -> None:
    _, words = random_words((2, 3 * TILE, dim), bits, dim + bits)
    keys, values = to_key_fragments(words, dim, bits), to_value_fragments(words, dim, bits)
    assert keys.shape == values.shape == (2, 3, dim // 32 * bits, 32)
    assert keys.dtype == values.dtype == np.uint32
    assert np.array_equal(from_key_fragments(keys, dim, bits), words)
    assert np.array_equal(from_value_fragments(values, dim, bits), words)


@pytest.mark.parametrize("bits", BITS)
def test_every_bit_of_a_unit_is_used_once(bits: int) -> None:
    word, place = bit_places(bits)
    places = {(int(w), int(p + 16 * e) % 32) for w, p in zip(word.flat, place.flat, strict=True)
              for e in (0, 1)}  # fmt: skip
    assert len(places) == 32 * bits
    assert {w for w, _ in places} == set(range(bits))


@given(st.integers(1, 8), st.sampled_from(DIMS), st.data())
def test_where_a_code_lies(bits: int, dim: int, data: st.DataObject) -> None:
    """Written out again from the layout's description: unit, fragment, lane, half, field."""
    codes, words = random_words((2 * TILE, dim), bits, data.draw(st.integers(0, 1000)))
    token = data.draw(st.integers(0, 2 * TILE - 1))
    i = data.draw(st.integers(0, dim - 1))
    tile, t = divmod(token, 32)
    unit, d = divmod(i, 32)
    fragment = d // 8 * 4 + t // 8
    for tiles, row, column in (
        (to_key_fragments(words, dim, bits), t % 8, d % 8),
        (to_value_fragments(words, dim, bits), d % 8, t % 8),
    ):
        lane, second = row * 4 + column // 2, column % 2
        mine = [int(w) for w in tiles[tile, unit * bits : (unit + 1) * bits, lane]]
        # Turned right by one bit, a half holds its fields from its lowest bit on.
        halves = [((w >> 1 | w << 31) & 0xFFFFFFFF) >> 16 * second & 0xFFFF for w in mine]
        each = 16 // bits
        if fragment < each * bits:
            found = halves[fragment // each] >> fragment % each * bits
        else:
            spare = 16 - each * bits
            stream = sum((h >> each * bits) << spare * w for w, h in enumerate(halves))
            found = stream >> (fragment - each * bits) * bits
        assert found & (2**bits - 1) == codes[token, i]


@pytest.mark.parametrize("bits", BITS)
def test_an_and_or_makes_a_half_of_a_code(bits: int) -> None:
    """What the layout is for: fields that end below bit 10 need no shift."""
    codes = np.arange(2**bits, dtype=np.uint16)
    for place in range(1, 11 - bits):
        word = np.uint16(0xFFFF ^ (2**bits - 1 << place)) | codes << np.uint16(place)
        exponent = 26 - place - bits
        magic = np.uint16(exponent << 10 | 1 << place - 1)
        value = (word & np.uint16(2**bits - 1 << place) | magic).view(np.float16)
        y = value - np.float16(2.0 ** (exponent - 15) + 1)
        assert np.array_equal(y.astype(np.float64), (2.0 * codes + 1 - 2**bits) / 2**bits)


@pytest.mark.parametrize("convert", [to_key_fragments, to_value_fragments])
def test_what_has_no_fragments(convert) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="multiple of 32"):
        convert(random_words((32, 80), 3, 0)[1], 80, 3)
    with pytest.raises(ValueError, match="reshape"):
        convert(random_words((33, 64), 3, 0)[1], 64, 3)
