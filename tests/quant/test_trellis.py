from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tqgen_kernels.quant.codebook import distortion
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.packing import pack, unpack
from tqgen_kernels.quant.trellis import (
    STREAMS,
    TRELLISES,
    centroids,
    nearest,
    trellis_of,
    values,
    windows,
)

BITS = sorted(TRELLISES)


def on_the_sphere(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors (count, dim) of norm sqrt(dim), as rotated keys and values are."""
    x = np.random.default_rng(seed).standard_normal((count, dim))
    return x * dim**0.5 / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("bits", BITS)
def test_every_window_has_a_value_of_its_own_and_its_negative_is_there(bits: int) -> None:
    found = np.sort(values(bits))
    assert found.shape == (1 << trellis_of(bits).window,)
    assert np.all(np.diff(found) > 1e-3)
    assert np.allclose(found, -found[::-1], rtol=0, atol=1e-12)


def test_a_window_is_its_code_and_those_of_its_stream_ahead() -> None:
    codes = np.arange(32, dtype=np.uint8) % 4
    codes[1::8] = [1, 2, 3, 0]
    first = 1 + (2 << 2) + (3 << 4)
    last = 0 + (1 << 2) + (2 << 4)  # round to the beginning
    assert windows(codes, 2)[[1, 25]].tolist() == [first, last]


@pytest.mark.parametrize("bits", [2, 3])
def test_nearest_is_the_nearest_of_all_sequences(bits: int) -> None:
    """Against every sequence of a stream of four codes, each stream on its own."""
    y = on_the_sphere(2, 32, 7)
    every = np.array(list(itertools.product(range(1 << bits), repeat=4)), np.uint8)
    points = centroids(np.repeat(every, STREAMS, axis=1), bits)[:, ::STREAMS]
    streams = y.reshape(2, 4, STREAMS).swapaxes(1, 2)
    best = ((streams[:, :, None] - points) ** 2).sum(-1).min(-1)
    error = (y - centroids(nearest(y, bits), bits)) ** 2
    assert np.allclose(error.reshape(2, 4, STREAMS).sum(1), best, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(supported_dims()), st.sampled_from(BITS), st.integers(0, 2**32 - 1))
def test_codes_pack_as_scalar_ones_and_a_vector_needs_no_other(
    dim: int, bits: int, seed: int
) -> None:
    y = on_the_sphere(2, dim, seed)
    codes = nearest(y, bits)
    assert codes.dtype == np.uint8
    assert codes.max() < 1 << bits
    stored = unpack(pack(codes, bits), dim, bits)
    assert np.array_equal(centroids(stored, bits), centroids(codes, bits))
    assert np.array_equal(nearest(y[1], bits), codes[1])
    assert np.array_equal(centroids(codes[1], bits), centroids(codes, bits)[1])


# At most this at head_dim 64 and 128; the best scalar codebook has 0.1160, 0.0340, 0.0093 at 128.
DISTORTION = {2: (0.094, 0.085), 3: (0.0265, 0.0240), 4: (0.0068, 0.0066)}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("dim", "which"), [(64, 0), (128, 1)])
def test_distortion_is_far_below_the_best_scalar_codebook(dim: int, bits: int, which: int) -> None:
    y = on_the_sphere(12_800 // dim, dim, 3)
    error = float(((y - centroids(nearest(y, bits), bits)) ** 2).mean())
    assert error < DISTORTION[bits][which] < 0.83 * distortion(dim, bits)


@pytest.mark.parametrize("bits", BITS)
def test_coefficients_are_the_best_for_the_chosen_windows(bits: int) -> None:
    """A least-squares fit to what the windows were chosen for changes hardly anything."""
    trellis = trellis_of(bits)
    y = np.random.default_rng(5).standard_normal((100, 128))
    chosen = windows(nearest(y, bits), bits)
    u = np.argsort(np.argsort(values(bits)))  # the polynomial is monotonic
    t = (2.0 * u[chosen].ravel() + 1) / (1 << trellis.window) - 1
    powers = t[:, None] ** np.array([1, 3, 5])
    fitted = np.linalg.lstsq(powers, y.ravel(), rcond=None)[0]
    before, after = (
        float(((y.ravel() - powers @ np.array(c)) ** 2).mean())
        for c in (trellis.coefficients, fitted)
    )
    assert before < after * 1.01


def test_a_words_steps_are_taken_by_masked_shifts_of_both_of_its_halves() -> None:
    """What a kernel would do: 8 codes of 2 bits in each half of a word, two streams of a vector."""
    codes = np.random.default_rng(1).integers(0, 4, 64).astype(np.uint8)
    low, high = codes[0::8], codes[1::8]
    word = sum((int(low[i]) + (int(high[i]) << 16)) << (2 * i) for i in range(8))
    hashed = np.argsort(np.argsort(values(2)))[windows(codes, 2)]  # values rise with the bits
    for i in range(8):
        turn, place = i // 3 * 6, i % 3 * 2  # a turned half serves the fields at 0, 2 and 4
        kept = (0xFFFF >> turn) * 0x10001
        x = (word >> turn) & kept | (word << (16 - turn)) & (~kept & 0xFFFFFFFF)
        for shift, mask in trellis_of(2).steps:
            x ^= (x << shift) & ((mask << place) * 0x10001)
        assert [(x >> place) & 63, (x >> (16 + place)) & 63] == hashed[8 * i : 8 * i + 2].tolist()


@pytest.mark.parametrize("bits", BITS)
def test_zero_and_constant_vectors_have_codes(bits: int) -> None:
    for y in (np.zeros(64), np.ones(64), -np.ones(64)):
        assert np.isfinite(centroids(nearest(y, bits), bits)).all()


def test_what_has_no_trellis() -> None:
    for bits in (1, 5, 2.0, True, None):
        with pytest.raises(ValueError, match="give 2, 3 or 4"):
            trellis_of(bits)  # type: ignore[arg-type]
    for dim in (16, 36):
        with pytest.raises(ValueError, match=f"head_dim {dim} .* multiple of 8 of at least 32"):
            nearest(np.zeros(dim), 2)
