"""Codebooks for one coordinate of a rotated unit vector, of three kinds.

lloyd-max  the centroids of least distortion (TurboQuant's), read from a table
uniform    k step / 2, k = 2 code + 1 - 2^bits: decoded by arithmetic alone
cubic      x (a + b x^2), x = k / 2: decoded by arithmetic, nearly as good as Lloyd-Max

mixed      of a cache: cubic for its keys, uniform for its values

Each kind has the parameters of least distortion for the density below: within 0.3 % (3 bits) and
2 % (4 bits) of Lloyd-Max for cubic, 8 % and 21 % for uniform; at 2 bits cubic is Lloyd-Max.

A coordinate t of a uniform point on the unit sphere in R^d has the density
f(t) ~ (1 - t^2)^((d - 3) / 2) (TurboQuant, arXiv 2504.19874, section 3). Centroids here are in
units of that coordinate's standard deviation 1 / sqrt(d), so that they hardly depend on d.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

MAX_BITS = 8
CodebookKind = Literal["lloyd-max", "uniform", "cubic", "mixed"]
KINDS = ("lloyd-max", "uniform", "cubic")  # of one side
PAIRS = (*KINDS, "mixed")  # of keys and values
_TAIL = 12.0  # standard deviations past which the density is nothing
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)


def check_bits(bits: int, name: str = "bits") -> None:
    """Raises ValueError, which calls the value `name`, unless bits is an int from 1 to 8."""
    if type(bits) is not int or not 1 <= bits <= MAX_BITS:
        raise ValueError(f"{name} {bits!r} is not supported: give an integer from 1 to {MAX_BITS}.")


def check_kind(kind: str) -> None:
    """Raises ValueError unless kind is one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"codebook {kind!r} is not supported: use one of {', '.join(KINDS)}.")


def check_pair(kind: str) -> None:
    """Raises ValueError unless kind is one of PAIRS."""
    if kind not in PAIRS:
        raise ValueError(f"codebook {kind!r} is not supported: use one of {', '.join(PAIRS)}.")


def side_kind(kind: CodebookKind, side: Literal["key", "value"]) -> CodebookKind:
    """The codebook of one side of a cache whose codebook is `kind`.

    "mixed" spends the exact shape where it counts: keys need bits several times more than values,
    and a uniform code takes the GPU half of the arithmetic to decode.
    """
    if kind != "mixed":
        return kind
    return "cubic" if side == "key" else "uniform"


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


def _lloyd_max(dim: int, bits: int) -> NDArray[np.float64]:
    """The positive centroids that solve c_i = E[y | cell i] (Lloyd 1982; Max 1960).

    By Newton steps on the positive half, where the Jacobian is tridiagonal.
    """
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
    return c


def _arithmetic(dim: int, bits: int, kind: str) -> NDArray[np.float64]:
    """The positive centroids of least distortion among `basis @ parameters`.

    By Newton steps from the fit to Lloyd-Max: the gradient by the centroids is mass_i c_i minus
    the integral of y f over cell i.
    """
    x = np.arange(2 ** (bits - 1)) + 0.5
    # One level cannot tell a cubic from a line.
    basis = np.stack([x, x**3], 1) if kind == "cubic" and bits > 1 else x[:, None]
    parameters = np.linalg.lstsq(basis, codebook(dim, bits)[len(x) :], rcond=None)[0]
    for _ in range(60):
        c = basis @ parameters
        edges = _edges(c, dim)
        mass, first = _moments(edges, dim)
        # An inner edge is a midpoint: it moves half as far as each of its two centroids.
        moved = _density(edges[1:-1], dim) * np.diff(c) / 4
        jacobian = np.diag(mass) - np.diag(moved, 1) - np.diag(moved, -1)
        jacobian -= np.diag(np.append(moved, 0.0) + np.append(0.0, moved))
        step = np.linalg.solve(basis.T @ jacobian @ basis, basis.T @ (mass * c - first))
        parameters = parameters - step
        if np.abs(step).max() < 1e-13:
            break
    centroids: NDArray[np.float64] = basis @ parameters
    return centroids


@lru_cache(maxsize=256)
def codebook(dim: int, bits: int, kind: str = "lloyd-max") -> NDArray[np.float64]:
    """The (2^bits,) float64 centroids for head_dim `dim`, ascending and symmetric, read-only.

    Raises ValueError for bits outside 1 to 8, dim below 4 and an unknown kind.
    """
    check_bits(bits)
    check_kind(kind)
    if dim < 4:
        raise ValueError(f"head_dim {dim} is not supported: a codebook needs at least 4.")
    c = _lloyd_max(dim, bits) if kind == "lloyd-max" else _arithmetic(dim, bits, kind)
    centroids = np.concatenate([-c[::-1], c])
    centroids.flags.writeable = False
    return centroids


@lru_cache(maxsize=256)
def boundaries(dim: int, bits: int, kind: str = "lloyd-max") -> NDArray[np.float64]:
    """The (2^bits - 1,) midpoints between centroids: code = how many of them lie below y."""
    c = codebook(dim, bits, kind)
    middle = (c[1:] + c[:-1]) / 2
    middle.flags.writeable = False
    return middle


def distortion(dim: int, bits: int, kind: str = "lloyd-max") -> float:
    """Expected ||x - x'||^2 / ||x||^2 of this codebook with the plain norm as the scale."""
    positive = codebook(dim, bits, kind)[2 ** (bits - 1) :]
    mass, first = _moments(_edges(positive, dim), dim)
    total = mass.sum()
    return float(1.0 - 2 * (first * positive).sum() / total + (mass * positive**2).sum() / total)


@lru_cache(maxsize=256)
def odd_polynomial(dim: int, bits: int, kind: str = "lloyd-max") -> NDArray[np.float64]:
    """The fewest (n,) coefficients a of codebook[c] = sum a_i y^(2i+1), y = (2c+1) / 2^bits - 1.

    Exact for uniform (n = 1) and cubic (n = 2); within 5e-4 standard deviations, which is half
    precision, for Lloyd-Max of 1 to 4 bits (n = 1, 2, 4, 5). Raises ValueError for more bits of it.
    """
    c = codebook(dim, bits, kind)[2 ** (bits - 1) :]
    y = (np.arange(len(c)) + 0.5) / len(c)
    for n in range(1, min(len(c), 5) + 1):
        powers = y[:, None] ** (2 * np.arange(n) + 1)
        coefficients = np.asarray(np.linalg.lstsq(powers, c, rcond=None)[0], np.float64)
        if np.abs(powers @ coefficients - c).max() < 5e-4:
            coefficients.flags.writeable = False
            return coefficients
    raise ValueError(
        f"codebook {kind!r} of {bits} bits is not decoded by arithmetic: use 'cubic' or 'uniform', "
        "4 bits or fewer, or tiles."
    )
