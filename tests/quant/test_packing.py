from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.packing import (
    TILE,
    Codes,
    from_key_tiles,
    from_value_tiles,
    pack,
    to_key_tiles,
    to_value_tiles,
    unpack,
    words_per_vector,
)

all_bits = range(1, 9)


def random_codes(shape: tuple[int, ...], bits: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.uint8)


def bit_at(words: np.ndarray, position: int) -> int:
    return int(words[position // 32]) >> (position % 32) & 1


def test_bit_order_is_fixed() -> None:
    """Golden words: stored caches and kernels both rely on them."""
    codes = np.arange(12, dtype=np.uint8) % 8
    assert pack(codes, 3).tolist() == [0x88FAC688, 0x6]  # 0 | 1 << 3 | 2 << 6 | ... across words
    assert pack(np.array([0x12, 0x34, 0x56, 0x78, 0x9A], np.uint8), 8).tolist() == [
        0x78563412,
        0x9A,
    ]
    assert pack(np.array([1, 0, 1, 1], np.uint8), 1).tolist() == [0b1101]


@pytest.mark.parametrize("bits", all_bits)
@pytest.mark.parametrize("dim", supported_dims())
def test_round_trip(dim: int, bits: int) -> None:
    codes = random_codes((2, 3, dim), bits, seed=dim + bits)
    words = pack(codes, bits)
    assert words.shape == (2, 3, words_per_vector(dim, bits))
    assert words.dtype == np.uint32
    assert np.array_equal(unpack(words, dim, bits), codes)


@given(st.integers(1, 8), st.integers(1, 600), st.integers(0, 2**32 - 1))
def test_round_trip_of_any_length(bits: int, n: int, seed: int) -> None:
    codes = random_codes((n,), bits, seed)
    words = pack(codes, bits)
    assert np.array_equal(unpack(words, n, bits), codes)
    assert len(words) * 32 - n * bits < 32
    assert all(bit_at(words, i) == 0 for i in range(n * bits, len(words) * 32))


@given(st.integers(1, 8), st.sampled_from(supported_dims()), st.data())
def test_bit_b_of_code_i_is_at_i_times_bits_plus_b(
    bits: int, dim: int, data: st.DataObject
) -> None:
    codes = random_codes((dim,), bits, seed=data.draw(st.integers(0, 1000)))
    i, b = data.draw(st.integers(0, dim - 1)), data.draw(st.integers(0, bits - 1))
    assert bit_at(pack(codes, bits), i * bits + b) == int(codes[i]) >> b & 1


@pytest.mark.parametrize("bits", all_bits)
@pytest.mark.parametrize("dim", supported_dims())
def test_tiles_round_trip(dim: int, bits: int) -> None:
    words = pack(random_codes((2, 1, 3 * TILE, dim), bits, seed=dim * bits), bits)
    keys = to_key_tiles(words)
    assert keys.shape == (2, 1, 3, words_per_vector(dim, bits), TILE)
    assert np.array_equal(from_key_tiles(keys), words)
    values = to_value_tiles(words, dim, bits)
    assert values.shape == (2, 1, 3, bits, dim)
    assert np.array_equal(from_value_tiles(values, dim, bits), words)


@given(st.integers(1, 8), st.sampled_from((32, 64, 80, 128)), st.data())
def test_where_a_token_and_a_coordinate_lie(bits: int, dim: int, data: st.DataObject) -> None:
    codes = random_codes((2 * TILE, dim), bits, seed=data.draw(st.integers(0, 1000)))
    words = pack(codes, bits)
    token, i = data.draw(st.integers(0, 2 * TILE - 1)), data.draw(st.integers(0, dim - 1))
    tile, lane = divmod(token, TILE)
    assert np.array_equal(to_key_tiles(words)[tile, :, lane], words[token])
    column = to_value_tiles(words, dim, bits)[tile, :, i]
    assert unpack(column, TILE, bits)[lane] == codes[token, i]


@pytest.mark.parametrize("tokens", [1, 31, 33])
def test_tiles_need_whole_tiles(tokens: int) -> None:
    words = pack(random_codes((tokens, 64), 3, seed=0), 3)
    with pytest.raises(ValueError, match="reshape"):
        to_key_tiles(words)
    with pytest.raises(ValueError, match="reshape"):
        to_value_tiles(words, 64, 3)
