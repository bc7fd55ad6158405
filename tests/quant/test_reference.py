from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.quant.codebook import KINDS, codebook
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.reference import (
    MAX_SCALE,
    Encoded,
    attend,
    decode,
    decode_rotated,
    encode,
)
from tqgen_kernels.quant.rotation import rotate

dims = st.sampled_from(supported_dims())
all_bits = st.integers(1, 8)
seeds = st.integers(0, 2**31 - 2)


def vectors(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def relative_error(x: np.ndarray, approximation: np.ndarray) -> np.ndarray:
    return ((x - approximation) ** 2).sum(-1) / (x * x).sum(-1)


@given(dims, all_bits, seeds, st.integers(0, 2**32 - 1))
def test_corrected_norm_survives(dim: int, bits: int, seed: int, numbers: int) -> None:
    x = vectors((4, dim), numbers)
    decoded = decode(encode(x, bits, seed), bits, seed)
    # Only fp16 rounding of the scale, 2^-11 at most, is between the two norms.
    assert np.allclose(
        np.linalg.norm(decoded, axis=-1), np.linalg.norm(x, axis=-1), rtol=2**-11 * 1.01
    )


@given(dims, all_bits, seeds, st.integers(0, 2**32 - 1), st.integers(-12, 12))
def test_codes_ignore_a_vectors_length(
    dim: int, bits: int, seed: int, numbers: int, exponent: int
) -> None:
    x = vectors((3, dim), numbers)
    one, other = encode(x, bits, seed), encode(x * 2.0**exponent, bits, seed)
    assert np.array_equal(one.codes, other.codes)
    assert np.allclose(other.scales, one.scales.astype(float) * 2.0**exponent, rtol=2**-10)


@given(dims, all_bits, seeds)
def test_a_negated_vector_decodes_to_the_negated_one(dim: int, bits: int, seed: int) -> None:
    x = vectors((3, dim), seed)
    plus, minus = (decode(encode(s * x, bits, seed), bits, seed) for s in (1, -1))
    assert np.allclose(plus, -minus, rtol=0, atol=1e-12)


def test_encode_shapes_and_dtypes() -> None:
    encoded = encode(vectors((2, 3, 5, 64), 0).astype(np.float16), 3, 42)
    assert encoded.codes.shape == (2, 3, 5, 64)
    assert encoded.codes.dtype == np.uint8
    assert encoded.codes.max() < 8
    assert encoded.scales.shape == (2, 3, 5)
    assert encoded.scales.dtype == np.float16
    assert decode(encoded, 3, 42).dtype == np.float64


@pytest.mark.parametrize("dim", supported_dims())
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_one_hot_is_the_worst_case_that_the_corrected_norm_repairs(dim: int, bits: int) -> None:
    """One Hadamard round makes a one-hot vector's coordinates equal in size, not Gaussian.

    All of them then sit on one side of their centroids and every error adds up in the norm.
    The corrected norm removes it whole: what is left is fp16 rounding of the scale.
    """
    x = np.eye(dim)
    plain = relative_error(x, decode(encode(x, bits, 42, norm_correction=False), bits, 42))
    nearest = np.abs(codebook(dim, bits) - 1).min()
    assert np.allclose(plain, nearest**2, rtol=0.02, atol=2e-6)
    corrected = relative_error(x, decode(encode(x, bits, 42), bits, 42))
    assert corrected.max() < 3e-7


@given(dims, all_bits, st.sampled_from(KINDS), seeds, st.floats(-1e4, 1e4), st.data())
def test_the_corrected_norm_repairs_one_hot_vectors_with_any_codebook(
    dim: int, bits: int, kind: str, seed: int, size: float, data: st.DataObject
) -> None:
    x = np.zeros((1, dim))
    x[0, data.draw(st.integers(0, dim - 1))] = np.copysign(max(abs(size), 1.0), size)
    decoded = decode(encode(x, bits, seed, codebook=kind), bits, seed, codebook=kind)
    assert relative_error(x, decoded).max() < 3e-7  # fp16 rounding of the scale, squared


@pytest.mark.parametrize("correction", [True, False])
@given(dims, all_bits)
def test_zero_decodes_to_zero(correction: bool, dim: int, bits: int) -> None:
    encoded = encode(np.zeros((2, dim)), bits, 1, correction)
    assert np.all(encoded.scales == 0)
    assert np.all(decode(encoded, bits, 1) == 0)


@pytest.mark.parametrize("correction", [True, False])
@pytest.mark.parametrize("dim", supported_dims())
def test_huge_vectors_stop_at_the_largest_scale(dim: int, correction: bool) -> None:
    x = np.full((1, dim), 3e38, np.float32)
    encoded = encode(x, 4, 1, correction)
    assert float(encoded.scales[0]) == MAX_SCALE
    assert np.isfinite(decode(encoded, 4, 1)).all()


def test_the_largest_fp16_vector_is_no_special_case() -> None:
    x = np.full((1, 128), 65504.0, np.float16)
    decoded = decode(encode(x, 4, 1), 4, 1)
    assert relative_error(x.astype(float), decoded).max() < 0.1
    assert np.linalg.norm(decoded) == pytest.approx(65504 * 128**0.5, rel=1e-3)


@pytest.mark.parametrize("size", [1e-300, 1e-45, 1e-12])
def test_tiny_vectors_become_zero(size: float) -> None:
    decoded = decode(encode(np.full((1, 64), size), 3, 1), 3, 1)
    assert np.all(decoded == 0)


def test_small_vectors_keep_their_direction() -> None:
    x = vectors((8, 64), 5) * 1e-4  # scales near fp16's smallest normal number
    assert relative_error(x, decode(encode(x, 4, 1), 4, 1)).max() < 0.05


@given(dims, all_bits, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_nan_and_infinity_stay_in_their_own_token(
    dim: int, bits: int, bad: float, data: st.DataObject
) -> None:
    x = vectors((4, dim), 9)
    clean = decode(encode(x, bits, 1), bits, 1)
    x[2, data.draw(st.integers(0, dim - 1))] = bad
    encoded = encode(x, bits, 1)
    decoded = decode(encoded, bits, 1)
    assert np.isnan(encoded.scales[2])
    assert np.isnan(decoded[2]).all()
    assert np.array_equal(np.delete(decoded, 2, 0), np.delete(clean, 2, 0))


def test_scores_in_the_rotated_basis_are_the_scores() -> None:
    """<q, R^T c> = <R q, c>: attention need not un-rotate a token."""
    q, k = vectors((2, 6, 96), 1)
    encoded = encode(k, 3, 8)
    assert np.allclose(
        q @ decode(encoded, 3, 8).T, rotate(q, 8) @ decode_rotated(encoded, 3).T, atol=1e-12
    )


def test_decode_rotated_is_scale_times_centroid() -> None:
    codes = np.arange(64, dtype=np.uint8)[None] % 4
    encoded = Encoded(codes, np.array([0.5], np.float16))
    assert np.array_equal(decode_rotated(encoded, 2), 0.5 * codebook(64, 2)[codes])


def attend_by_loops(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    """One head, one query at a time, causal among the newest L tokens."""
    heads, length, _ = q.shape
    repeats, tokens = heads // k.shape[0], k.shape[1]
    out = np.zeros((heads, length, v.shape[-1]))
    for head in range(heads):
        for row in range(length):
            seen = tokens - length + row + 1
            w = np.exp([scale * q[head, row] @ k[head // repeats, t] for t in range(seen)])
            out[head, row] = sum(w[t] * v[head // repeats, t] for t in range(seen)) / w.sum()
    return out


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(0, 9), st.integers(0, 99)
)
def test_attend_against_loops(kv_heads: int, gqa: int, length: int, older: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = length + older
    q = rng.standard_normal((kv_heads * gqa, length, 16))
    k = rng.standard_normal((kv_heads, tokens, 16))
    v = rng.standard_normal((kv_heads, tokens, 24))
    mask = np.where(np.tri(length, tokens, older, dtype=bool), 0.0, -np.inf)
    assert np.allclose(attend(q, k, v, 0.3, mask), attend_by_loops(q, k, v, 0.3), atol=1e-12)


def test_attend_survives_large_scores() -> None:
    q = np.full((1, 1, 1, 4), 1000.0)
    k = np.array([1000.0, -1000.0]).reshape(1, 1, 2, 1).repeat(4, -1)
    v = np.array([1.0, 2.0]).reshape(1, 1, 2, 1)
    assert attend(q, k, v, 1.0).item() == 1.0


def test_attend_refuses_query_heads_that_share_nothing() -> None:
    with pytest.raises(ValueError, match=r"5 query heads .* 2 KV"):
        attend(np.zeros((5, 1, 4)), np.zeros((2, 3, 4)), np.zeros((2, 3, 4)), 1.0)
