"""The float64 oracle that every kernel and every cache path is tested against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.quant import codebook as codebooks
from tqgen_kernels.quant.packing import Codes
from tqgen_kernels.quant.rotation import rotate, unrotate

Array = NDArray[np.floating]
Float64 = NDArray[np.float64]

MAX_SCALE = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Encoded:
    """codes (..., d) uint8 and one fp16 scale a vector (...,)."""

    codes: Codes
    scales: NDArray[np.float16]


def encode(
    x: Array,
    bits: int,
    seed: int,
    norm_correction: bool = True,
    *,
    codebook: str = "lloyd-max",
) -> Encoded:
    """Codes and scales of vectors x (..., d).

    y = sqrt(d) R x / ||x|| is quantised to the nearest centroid; the scale is ||x|| divided by the
    norm of the chosen centroids (or by sqrt(d) without the correction), so x' = scale R^T c.
    A zero vector gets scale 0, one with NaN or infinity scale NaN. fp16 bounds the scale: it stops
    at 65504, and a vector whose scale lies below 3e-8 becomes zero.
    """
    x = np.asarray(x, np.float64)
    dim = x.shape[-1]
    finite = np.asarray(np.isfinite(x).all(-1))
    x = np.where(finite[..., None], x, 0.0)
    norm = np.sqrt((x * x).sum(-1))
    unit = x / np.where(norm > 0, norm, 1.0)[..., None]
    y = rotate(unit, seed) * np.sqrt(dim)
    codes = np.searchsorted(codebooks.boundaries(dim, bits, codebook), y).astype(np.uint8)
    chosen = codebooks.codebook(dim, bits, codebook)[codes]
    length = np.sqrt((chosen**2).sum(-1)) if norm_correction else dim**0.5
    scales = np.where(finite, np.minimum(norm / length, MAX_SCALE), np.nan)
    return Encoded(codes, scales.astype(np.float16))


def decode_rotated(encoded: Encoded, bits: int, *, codebook: str = "lloyd-max") -> Float64:
    """scale * centroids (..., d): the vectors in the rotated basis."""
    centroids = codebooks.codebook(encoded.codes.shape[-1], bits, codebook)[encoded.codes]
    return centroids * encoded.scales.astype(np.float64)[..., None]


def decode(encoded: Encoded, bits: int, seed: int, *, codebook: str = "lloyd-max") -> Float64:
    """The vectors (..., d) that the codes stand for, un-rotated."""
    return unrotate(decode_rotated(encoded, bits, codebook=codebook), seed)


def attend(q: Array, k: Array, v: Array, scale: float, mask: Array | None = None) -> Float64:
    """softmax(scale q k^T + mask) v in float64.

    q (..., Hq, L, d), k (..., Hkv, T, d), v (..., Hkv, T, dv), Hq a multiple of Hkv; mask additive,
    broadcastable to (..., Hq, L, T). Returns (..., Hq, L, dv). Raises ValueError for other heads.
    """
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    repeats, rest = divmod(q.shape[-3], k.shape[-3])
    if rest:
        raise ValueError(f"{q.shape[-3]} query heads are no multiple of {k.shape[-3]} KV heads.")
    k, v = (np.repeat(a, repeats, axis=-3) for a in (k, v))
    scores = scale * (q @ k.swapaxes(-1, -2))
    if mask is not None:
        scores = scores + mask
    scores = scores - scores.max(-1, keepdims=True)
    weights = np.exp(scores)
    out: Float64 = (weights @ v) / weights.sum(-1, keepdims=True)
    return out
