"""Lloyd-Max codebooks for one coordinate of a rotated unit vector.

A coordinate t of a uniform point on the unit sphere in R^d has the density
f(t) ~ (1 - t^2)^((d - 3) / 2) (TurboQuant, arXiv 2504.19874, section 3). Centroids here are in
units of that coordinate's standard deviation 1 / sqrt(d), so that they hardly depend on d.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 8
_TAIL = 12.0  # standard deviations past which the density is nothing
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def check_bits(bits: int, name: str = "bits") -> None:
    """Raises ValueError, which calls the value `name`, unless bits is an int from 1 to 8."""
    if type(bits) is not int or not 1 <= bits <= MAX_BITS:
        raise ValueError(f"{name} {bits!r} is not supported: give an integer from 1 to {MAX_BITS}.")


def _density(y: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """f up to a constant, y in standard deviations."""
    return np.maximum(1.0 - y * y / dim, 0.0) ** ((dim - 3) / 2)


def _moments(
    edges: NDArray[np.float64], dim: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Integrals of f and of y f over each cell between neighbouring edges (Gauss-Legendre)."""
    centre, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    y = centre[:, None] + half[:, None] * _NODES
    f = _density(y, dim) * _WEIGHTS * half[:, None]
    return f.sum(1), (f * y).sum(1)


def _edges(positive: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    last = min(_TAIL, float(np.sqrt(dim)))
    return np.concatenate([[0.0], (positive[1:] + positive[:-1]) / 2, [last]])


def _initial(levels: int, dim: int) -> NDArray[np.float64]:
    """Panter-Dite companding: quantiles of f^(1/3), near the optimum at many levels."""
    grid = np.linspace(0.0, min(_TAIL, float(np.sqrt(dim))), 4001)
    mass = np.concatenate([[0.0], np.cumsum(_density(grid[:-1] + grid[1] / 2, dim) ** (1 / 3))])
    centroids: NDArray[np.float64] = np.interp(
        (np.arange(levels) + 0.5) / levels * mass[-1], mass, grid
    )
    return centroids


@lru_cache(maxsize=256)
def codebook(dim: int, bits: int) -> NDArray[np.float64]:
    """The (2^bits,) float64 centroids for head_dim `dim`, ascending and symmetric, read-only.

    Solves c_i = E[y | cell i] (Lloyd 1982; Max 1960) by Newton steps on the positive half, where
    the Jacobian is tridiagonal. Raises ValueError for bits outside 1 to 8 and dim below 4.
    """
    check_bits(bits)
    if dim < 4:
        raise ValueError(f"head_dim {dim} is not supported: a codebook needs at least 4.")
    c = _initial(2 ** (bits - 1), dim)
    for _ in range(60):
        edges = _edges(c, dim)
        mass, first = _moments(edges, dim)
        residual = c - first / mass
        # d E[y|cell] / d edge = +- f(edge) (edge - mean) / mass; each inner edge is a midpoint.
        f = _density(edges, dim)
        mean = first / mass
        upper, lower = f[1:] * (edges[1:] - mean) / mass, f[:-1] * (mean - edges[:-1]) / mass
        upper[-1] = lower[0] = 0.0  # these edges do not move
        jacobian = np.diag(1.0 - (upper + lower) / 2)
        jacobian -= np.diag(upper[:-1] / 2, 1) + np.diag(lower[1:] / 2, -1)
        c = np.sort(np.abs(c - np.linalg.solve(jacobian, residual)))
        if np.abs(residual).max() < 1e-12:
            break
    centroids = np.concatenate([-c[::-1], c])
    centroids.flags.writeable = False
    return centroids


@lru_cache(maxsize=256)
def boundaries(dim: int, bits: int) -> NDArray[np.float64]:
    """The (2^bits - 1,) midpoints between centroids: code = how many of them lie below y."""
    c = codebook(dim, bits)
    middle = (c[1:] + c[:-1]) / 2
    middle.flags.writeable = False
    return middle


def distortion(dim: int, bits: int) -> float:
    """Expected ||x - x'||^2 / ||x||^2 of this codebook with the plain norm as the scale."""
    positive = codebook(dim, bits)[2 ** (bits - 1) :]
    mass, first = _moments(_edges(positive, dim), dim)
    total = mass.sum()
    return float(1.0 - 2 * (first * positive).sum() / total + (mass * positive**2).sum() / total)
