from __future__ import annotations

import numpy as np
import pytest

from tqgen_kernels.quant.hadamard import base_matrix, factor, hadamard, supported_dims


def test_supported_dims_are_those_of_mlx() -> None:
    assert supported_dims() == (
        *(32, 40, 48, 56, 64, 80, 96, 112, 128),
        *(160, 192, 224, 256, 320, 384, 448, 512),
    )


@pytest.mark.parametrize("m", [1, 12, 20, 28])
def test_base_matrices_are_hadamard(m: int) -> None:
    matrix = base_matrix(m).astype(int)
    assert set(np.unique(matrix)) <= {-1, 1}
    assert np.array_equal(matrix @ matrix.T, m * np.eye(m))


@pytest.mark.parametrize("dim", supported_dims())
def test_rows_are_orthogonal_signs(dim: int) -> None:
    matrix = hadamard(dim).astype(int)
    assert np.array_equal(matrix @ matrix.T, dim * np.eye(dim))
    m, power = factor(dim)
    assert m * power == dim
    # Sylvester: the first block row repeats H_m's entries along 2^k columns.
    assert np.array_equal(matrix[::power, ::power], base_matrix(m))


@pytest.mark.parametrize("dim", [0, -64, 1, 16, 31, 33, 36, 72, 100, 576, 1024, 64.0, "64", None])
def test_other_sizes_get_a_message_that_names_the_allowed_ones(dim: object) -> None:
    with pytest.raises(ValueError, match=r"head_dim .* is not supported.*32, 40.*512.*fp16") as e:
        factor(dim)  # type: ignore[arg-type]
    assert repr(dim) in str(e.value)


def test_matrices_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        hadamard(64)[0, 0] = 5
