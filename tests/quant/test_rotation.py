from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.rotation import rotate, rotation, signs, unrotate

dims = st.sampled_from(supported_dims())
seeds = st.integers(0, 2**31 - 1)


@pytest.mark.parametrize(
    ("dim", "seed", "golden"),
    [
        (64, 42, 0x197FF7ED9867F6F),
        (64, 43, 0xFAD8DE6841CDB92D),
        (128, 0, 0x910A2DEC89025CC1E220A8397B1DCDAF),
        (80, 2**31 - 1, 0x19AC38167686BA6E9AC),
    ],
)
def test_signs_never_change(dim: int, seed: int, golden: int) -> None:
    """A stored cache holds the seed alone: other signs would make it unreadable.

    Seed 0's low word, e220a8397b1dcdaf, is also the first number that SplitMix64 is known by.
    """
    assert sum(1 << i for i, sign in enumerate(signs(dim, seed)) if sign > 0) == golden


@given(dims, seeds)
def test_signs_are_signs_and_read_only(dim: int, seed: int) -> None:
    s = signs(dim, seed)
    assert s.shape == (dim,)
    assert s.dtype == np.float32
    assert set(np.unique(s)) <= {-1.0, 1.0}
    assert not s.flags.writeable


def test_signs_differ_between_seeds_and_are_balanced() -> None:
    table = np.stack([signs(128, seed) for seed in range(500)])
    assert len(np.unique(table, axis=0)) == 500
    # Mean of 500 fair signs: standard deviation 0.045; six of those.
    assert np.abs(table.mean(0)).max() < 0.27
    assert np.abs(table.mean()) < 0.03


@given(dims, seeds)
def test_rotation_is_orthogonal(dim: int, seed: int) -> None:
    r = rotation(dim, seed)
    assert np.allclose(r @ r.T, np.eye(dim), rtol=0, atol=1e-13)


@given(dims, seeds, st.integers(0, 2**32 - 1), st.integers(-6, 6))
def test_unrotate_inverts_and_norms_and_products_stay(
    dim: int, seed: int, numbers: int, exponent: int
) -> None:
    x, z = np.random.default_rng(numbers).standard_normal((2, 3, dim)) * 10.0**exponent
    y = rotate(x, seed)
    size = 10.0**exponent
    assert np.allclose(unrotate(y, seed), x, rtol=0, atol=1e-12 * size)
    assert np.allclose((y * y).sum(-1), (x * x).sum(-1), rtol=1e-12)
    assert np.allclose((y * rotate(z, seed)).sum(-1), (x * z).sum(-1), atol=1e-10 * size * size)


@pytest.mark.parametrize("dim", supported_dims())
def test_equals_mlx_hadamard_transform(dim: int) -> None:
    x = np.random.default_rng(dim).standard_normal((5, dim)).astype(np.float32)
    ours = rotate(x, seed=7)
    theirs = np.array(mx.hadamard_transform(mx.array(x) * mx.array(signs(dim, 7))))
    assert np.abs(ours - theirs).max() < 2e-6


def test_one_hot_spreads_evenly() -> None:
    """The reason for rotating: a lone large coordinate becomes d equal ones."""
    for dim in supported_dims():
        y = rotate(np.eye(dim), seed=3)
        assert np.allclose(np.abs(y), dim**-0.5)
