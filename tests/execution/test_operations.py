"""The operations of a cache against the float64 reference."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tqgen_kernels.backends.packed import Layout, Packed
from tqgen_kernels.codegen.families.attend import Row
from tqgen_kernels.execution import operations
from tqgen_kernels.quant import packing, reference
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.packing import TILE

DIMS = supported_dims()
SEED = 42


def vectors(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    """Random vectors of many lengths, one zero, one with a single coordinate."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape, np.float32)
    x *= np.exp(rng.uniform(-4, 4, (*shape[:-1], 1))).astype(np.float32)
    x[..., 1, :] = 0.0
    x[..., 2, :] = 0.0
    x[..., 2, 5] = 1.0
    return x


def codes_of(words: mx.array, dim: int, bits: int, layout: Layout) -> packing.Codes:
    tiles = np.array(words)
    if layout == "key":
        return packing.unpack(packing.from_key_tiles(tiles), dim, bits)
    return packing.unpack(packing.from_value_tiles(tiles, dim, bits), dim, bits)


@pytest.mark.parametrize("dim", DIMS)
@settings(max_examples=8)
@given(
    bits=st.integers(1, 8),
    layout=st.sampled_from(["key", "value"]),
    correction=st.booleans(),
    seed=st.integers(0, 99),
)
def test_encode_gives_the_references_codes(
    dim: int, bits: int, layout: Layout, correction: bool, seed: int
) -> None:
    x = vectors((2, 1, 2 * TILE, dim), seed)
    words, scales = operations.encode(
        mx.array(x), bits=bits, seed=seed, layout=layout, norm_correction=correction
    )
    expected = reference.encode(x, bits, seed, correction)
    # float32 against float64: a coordinate on a boundary may fall to either side.
    assert np.mean(codes_of(words, dim, bits, layout) != expected.codes) < 1e-3
    np.testing.assert_allclose(
        np.array(scales).reshape(expected.scales.shape).astype(np.float64),
        expected.scales.astype(np.float64),
        rtol=2e-3,
        atol=2e-7,
    )


@pytest.mark.parametrize("dim", DIMS)
@settings(max_examples=8)
@given(
    bits=st.integers(1, 8),
    layout=st.sampled_from(["key", "value"]),
    rotated=st.booleans(),
    seed=st.integers(0, 99),
)
def test_dequantize_gives_the_references_vectors(
    dim: int, bits: int, layout: Layout, rotated: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tile = (packing.words_per_vector(dim, bits), TILE) if layout == "key" else (bits, dim)
    words = rng.integers(0, 2**32, (1, 2, 3, *tile), np.uint32)
    scales = np.exp(rng.uniform(-4, 4, (1, 2, 3, TILE))).astype(np.float16)
    y = operations.dequantize(
        mx.array(words),
        mx.array(scales),
        tiles=2,
        head_dim=dim,
        bits=bits,
        seed=seed,
        layout=layout,
        dtype=mx.float32,
        rotated=rotated,
    )
    codes = codes_of(mx.array(words[:, :, :2]), dim, bits, layout)
    encoded = reference.Encoded(codes, scales[:, :, :2].reshape(codes.shape[:-1]))
    expected = (
        reference.decode_rotated(encoded, bits)
        if rotated
        else reference.decode(encoded, bits, seed)
    )
    error = np.linalg.norm(np.array(y) - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert error.max() < 1e-6


def test_a_vector_with_nan_or_infinity_stays_alone() -> None:
    x = vectors((1, 1, TILE, 64))
    x[0, 0, 4, 3], x[0, 0, 5, 3] = np.nan, np.inf
    words, scales = operations.encode(mx.array(x), bits=3, seed=SEED, layout="key")
    assert np.isnan(np.array(scales)[0, 0, 0, 4:6]).all()
    expected = reference.encode(x, 3, SEED)
    others = [i for i in range(TILE) if i not in (4, 5)]
    assert np.isfinite(np.array(scales)[0, 0, 0, others]).all()
    same = codes_of(words, 64, 3, "key")[0, 0, others] == expected.codes[0, 0, others]
    assert same.all()


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_squares_that_leave_float32_do_no_harm(factor: float) -> None:
    x = np.random.default_rng(0).standard_normal((1, 1, TILE, 64)).astype(np.float32)
    words, scales = operations.encode(mx.array(x * factor), bits=4, seed=SEED, layout="value")
    assert (codes_of(words, 64, 4, "value") == reference.encode(x, 4, SEED).codes).mean() > 0.999
    assert np.array(scales).max() == (0 if factor < 1 else 65504)


@pytest.mark.parametrize("shape", [(1, 1, 31, 64), (1, 32, 64)])
def test_encode_wants_whole_tiles(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="32 n"):
        operations.encode(mx.zeros(shape), bits=3, seed=SEED, layout="key")


def test_encode_names_the_head_dims_it_takes() -> None:
    with pytest.raises(ValueError, match="72 is not supported.*64, 80"):
        operations.encode(mx.zeros((1, 1, TILE, 72)), bits=3, seed=SEED, layout="key")


def packed_store(
    x: NDArray[np.float32], y: NDArray[np.float32], tiles: int, key_bits: int, value_bits: int
) -> Packed:
    """A store of keys x and values y whose first tiles are packed, in a roomy buffer."""
    split = tiles * TILE
    some = max(split, TILE)  # a buffer is never without a tile
    key_words, key_scales = operations.encode(
        mx.array(x[:, :, :some]), bits=key_bits, seed=SEED, layout="key"
    )
    value_words, value_scales = operations.encode(
        mx.array(y[:, :, :some]), bits=value_bits, seed=SEED + 1, layout="value"
    )
    room = [(0, 0), (0, 0), (0, 2)]
    exact = x.shape[2] - split
    window = [(0, 0), (0, 0), (0, 5), (0, 0)]
    return Packed(
        mx.pad(key_words, [*room, (0, 0), (0, 0)]),
        mx.pad(key_scales, [*room, (0, 0)]),
        mx.pad(value_words, [*room, (0, 0), (0, 0)]),
        mx.pad(value_scales, [*room, (0, 0)]),
        mx.pad(mx.array(x[:, :, split:]), window),
        mx.pad(mx.array(y[:, :, split:]), window),
        (Row(tiles, exact),),
        key_bits,
        value_bits,
        SEED,
        SEED + 1,
    )


@settings(max_examples=60)
@given(
    dims=st.tuples(st.sampled_from(DIMS), st.sampled_from(DIMS)),
    bits=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    gqa=st.integers(1, 5),
    length=st.integers(1, 8),
    tiles=st.integers(0, 3),
    exact=st.integers(32, 45),
)
def test_attend_is_attention_over_what_the_store_holds(
    dims: tuple[int, int], bits: tuple[int, int], gqa: int, length: int, tiles: int, exact: int
) -> None:
    rng = np.random.default_rng(length)
    tokens = tiles * TILE + exact
    x, y = (rng.standard_normal((2, 2, tokens, dim), np.float32) for dim in dims)
    store = packed_store(x, y, tiles, *bits)
    q = rng.standard_normal((2, 2 * gqa, length, dims[0]), np.float32)
    out = operations.attend(mx.array(q), store, scale=0.2)

    for side, words, scales, dim, b, layout, seed in (
        (x, store.key_words, store.key_scales, dims[0], bits[0], "key", SEED),
        (y, store.value_words, store.value_scales, dims[1], bits[1], "value", SEED + 1),
    ):
        if tiles:
            codes = codes_of(words[:, :, :tiles], dim, b, layout)
            encoded = reference.Encoded(
                codes, np.array(scales)[:, :, :tiles].reshape(codes.shape[:-1])
            )
            side[:, :, : tiles * TILE] = reference.decode(encoded, b, seed)
    later = np.arange(tokens) > tokens - length + np.arange(length)[:, None]
    expected = reference.attend(q, x, y, 0.2, np.where(later, -np.inf, 0.0))
    assert out.shape == expected.shape
    np.testing.assert_allclose(np.array(out), expected, atol=2e-5)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_attend_answers_in_the_dtype_of_the_queries(dtype: mx.Dtype) -> None:
    x = vectors((1, 1, TILE + 8, 64))
    out = operations.attend(mx.ones((1, 2, 1, 64), dtype), packed_store(x, x, 1, 4, 4), scale=0.1)
    assert out.dtype == dtype
