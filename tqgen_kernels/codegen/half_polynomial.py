"""Constants with which half arithmetic decodes a codebook.

A kernel computes y (r_0 + r_1 y^2 + ... + y^2n) in half precision, fused steps rounded once, and a
factor in float32 stands elsewhere: two operations for a cubic. Rounded by themselves the ratios r
would leave an error of 4e-4, the same at every coordinate; chosen with the arithmetic in view, half
of it goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.quant.codebook import codebook, odd_polynomial

_REACH = 48  # half-precision neighbours tried on either side of a ratio
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class HalfPolynomial:
    """centroid = factor * half arithmetic of y and the ratios, lowest power first.

    error: relative L2 of the centroids so decoded, weighed by how often each is met.
    """

    factor: float
    ratios: tuple[float, ...]
    error: float


def _half(x: Float64) -> Float64:
    return x.astype(np.float16).astype(np.float64)


def evaluate(y: Float64, ratios: tuple[float, ...]) -> Float64:
    """What a kernel's half arithmetic makes of y: every product of two halves is exact here."""
    if not ratios:
        return y
    square = _half(y * y)
    total = _half(y * y + ratios[-1])
    for ratio in ratios[-2::-1]:
        total = _half(total * square + ratio)
    return _half(y * total)


@lru_cache(maxsize=256)
def half_polynomial(dim: int, bits: int, kind: str) -> HalfPolynomial:
    """The constants for a codebook of quant/codebook.py.

    Raises ValueError where no odd polynomial of few terms is the codebook.
    """
    coefficients = odd_polynomial(dim, bits, kind)
    centroids = codebook(dim, bits, kind)[2 ** (bits - 1) :]
    y = (np.arange(len(centroids)) + 0.5) / len(centroids)
    # The nearest centroid's share of a Gaussian, near enough for a weight.
    weight = np.exp(-(centroids**2) / 2) * np.gradient(centroids) if bits > 1 else np.ones(1)

    def fit(ratios: tuple[float, ...]) -> HalfPolynomial:
        value = evaluate(y, ratios)
        factor = (weight * value * centroids).sum() / (weight * value**2).sum()
        rest = (weight * (factor * value - centroids) ** 2).sum()
        return HalfPolynomial(factor, ratios, float(np.sqrt(rest / (weight * centroids**2).sum())))

    best = fit(tuple(float(np.float16(a / coefficients[-1])) for a in coefficients[:-1]))
    for _ in range(2):
        for i in range(len(best.ratios)):
            centre = np.float16(best.ratios[i]).view(np.int16)
            for step in range(-_REACH, _REACH + 1):
                near = float(np.int16(centre + step).view(np.float16))
                tried = fit((*best.ratios[:i], near, *best.ratios[i + 1 :]))
                if tried.error < best.error:
                    best = tried
    return best
