"""The operations of a compressed cache in plain MLX: right on every device, tuned for none."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np

from tqgen_kernels.backends.portable_fragments import from_fragments, to_fragments
from tqgen_kernels.quant import codebook as codebooks
from tqgen_kernels.quant.hadamard import base_matrix, factor
from tqgen_kernels.quant.packing import TILE, words_per_vector
from tqgen_kernels.quant.reference import MAX_SCALE
from tqgen_kernels.quant.rotation import signs as rotation_signs

if TYPE_CHECKING:
    from tqgen_kernels.backends.packed import Packed

NAME = "portable"
_GROUP = 32  # codes that fill a whole number of words at any bits
_RUN = {1: 8, 2: 4, 3: 4, 4: 4, 5: 2, 6: 2, 7: 1, 8: 1}  # codes that are looked up together


def is_available() -> bool:
    """True: MLX itself is all that it needs."""
    return True


# Constants are evaluated when made: MLX streams belong to threads, and a lazy constant made in
# one server thread cannot be used in another.
@lru_cache(maxsize=256)
def signs(dim: int, seed: int) -> mx.array:
    """The (dim,) float32 signs of the rotation."""
    return _constant(rotation_signs(dim, seed))


@lru_cache(maxsize=256)
def centroids(dim: int, bits: int, codebook: str = "lloyd-max") -> mx.array:
    """The (2^bits,) float32 codebook."""
    return _constant(codebooks.codebook(dim, bits, codebook).astype(np.float32))


@lru_cache(maxsize=256)
def _boundaries(dim: int, bits: int, codebook: str) -> mx.array:
    return _constant(codebooks.boundaries(dim, bits, codebook).astype(np.float32))


@lru_cache(maxsize=8)
def _base_transposed(m: int) -> mx.array:
    return _constant(base_matrix(m).T.astype(np.float32))


@lru_cache(maxsize=64)
def _runs_of_centroids(dim: int, bits: int, codebook: str) -> mx.array:
    """The centroids (2^(run * bits), run) of every run of codes."""
    run = _RUN[bits]
    codes = np.arange(1 << (run * bits))[:, None] >> (np.arange(run) * bits) & ((1 << bits) - 1)
    return _constant(codebooks.codebook(dim, bits, codebook).astype(np.float32)[codes])


@lru_cache(maxsize=64)
def _offsets(bits: int, run: int) -> tuple[mx.array, ...]:
    """Where each run of codes of a group of 32 lies: low word, shift, high word, its shift, and a
    mask that is zero where the run does not reach into the high word."""
    first = np.arange(0, _GROUP, run) * bits
    low, shift = first // 32, first % 32
    high = np.minimum(low + 1, bits - 1)
    crosses = shift + run * bits > 32
    back = np.where(crosses, 32 - shift, 0)
    keep = np.where(crosses, 0xFFFFFFFF, 0)
    ints = tuple(_constant(a.astype(np.int32)) for a in (low, high))
    words = tuple(_constant(a.astype(np.uint32)) for a in (shift, back, keep))
    return ints + words


def _constant(values: np.ndarray) -> mx.array:
    array = mx.array(values)
    mx.eval(array)
    return array


def rotate(x: mx.array, seed: int) -> mx.array:
    """sqrt(d) R x = H (signs x) along the last axis, float32."""
    dim = x.shape[-1]
    return mx.hadamard_transform(x.astype(mx.float32) * signs(dim, seed), scale=1.0)


def unrotate(y: mx.array, seed: int) -> mx.array:
    """R^T y along the last axis, float32. H_12, H_20 and H_28 are not symmetric."""
    dim = y.shape[-1]
    m, power = factor(dim)
    if m > 1:
        y = y.reshape(*y.shape[:-1], m, power)
        y = mx.hadamard_transform(y, scale=1.0) if power > 1 else y
        y = (_base_transposed(m) @ y).reshape(*y.shape[:-2], dim)
    else:
        y = mx.hadamard_transform(y, scale=1.0)
    return y * (signs(dim, seed) * float(dim**-0.5))


def _nearest(y: mx.array, bits: int, codebook: str) -> mx.array:
    """Codes (uint32): how many boundaries lie below y, by bisection."""
    boundaries = _boundaries(y.shape[-1], bits, codebook)
    code = mx.zeros(y.shape, mx.uint32)
    for bit in reversed(range(bits)):
        half = 1 << bit
        code = code + (boundaries[code + (half - 1)] < y).astype(mx.uint32) * half
    return code


def pack(codes: mx.array, bits: int) -> mx.array:
    """Codes (..., n) uint32 to their little-endian bit stream (..., ceil(n * bits / 32))."""
    *lead, n = codes.shape
    width = words_per_vector(n, bits)
    if n % _GROUP:
        codes = mx.pad(codes, [(0, 0)] * len(lead) + [(0, -n % _GROUP)])
    groups = codes.reshape(*lead, -1, _GROUP)
    words = []
    for word in range(bits):
        first, last = word * 32 // bits, min((word * 32 + 31) // bits, _GROUP - 1)
        place = np.arange(first, last + 1) * bits - word * 32
        left = mx.array(np.maximum(place, 0).astype(np.uint32))
        right = mx.array(np.maximum(-place, 0).astype(np.uint32))
        words.append(((groups[..., first : last + 1] << left) >> right).sum(-1))
    packed = mx.stack(words, axis=-1).reshape(*lead, -1)
    return packed[..., :width]


def unpack(words: mx.array, n: int, bits: int) -> mx.array:
    """The inverse of `pack`: n codes (..., n), uint32."""
    return _unpack_runs(words, bits, 1)[..., :n]


def _unpack_runs(words: mx.array, bits: int, run: int) -> mx.array:
    """Runs of codes (..., codes / run), uint32, each with its first code lowest."""
    *lead, width = words.shape
    low, high, shift, back, keep = _offsets(bits, run)
    if width % bits:
        words = mx.pad(words, [(0, 0)] * len(lead) + [(0, -width % bits)])
    groups = words.reshape(*lead, -1, bits)
    runs = mx.take(groups, low, axis=-1) >> shift
    if 32 % (run * bits):
        runs = runs | ((mx.take(groups, high, axis=-1) << back) & keep)
    return (runs & ((1 << (run * bits)) - 1)).reshape(*lead, -1)


def _unpack_centroids(words: mx.array, n: int, dim: int, bits: int, codebook: str) -> mx.array:
    """The centroids (..., n) of packed codes: a run of codes a look-up is several times faster."""
    runs = _unpack_runs(words, bits, _RUN[bits])
    found = _runs_of_centroids(dim, bits, codebook)[runs]
    return found.reshape(*words.shape[:-1], -1)[..., :n]


def encode(
    x: mx.array,
    *,
    bits: int,
    seed: int,
    layout: str,
    norm_correction: bool,
    codebook: str = "lloyd-max",
) -> tuple[mx.array, mx.array]:
    """Tiles of codes and their scales; `operations.encode` says more."""
    batch, heads, tokens, dim = x.shape
    x = x.astype(mx.float32)
    finite = mx.isfinite(x).all(-1, keepdims=True)
    x = mx.where(finite, x, 0.0)
    largest = mx.abs(x).max(-1, keepdims=True)  # squares of large or tiny values leave float32
    x = x / mx.where(largest > 0, largest, 1.0)
    norm = mx.sqrt((x * x).sum(-1, keepdims=True))
    codes = _nearest(rotate(x / mx.where(norm > 0, norm, 1.0), seed), bits, codebook)
    if norm_correction:
        chosen = centroids(dim, bits, codebook)[codes]
        length = mx.sqrt((chosen * chosen).sum(-1, keepdims=True))
    else:
        length = mx.array(dim**0.5, mx.float32)
    scales = mx.minimum(norm / length * largest, MAX_SCALE)
    scales = mx.where(finite, scales, float("nan")).astype(mx.float16)
    scales = scales.reshape(batch, heads, tokens // TILE, TILE)
    return to_tiles(pack(codes, bits), codes, bits, layout), scales


def to_tiles(words: mx.array, codes: mx.array, bits: int, layout: str) -> mx.array:
    """Token-major words and their codes (B, H, T, ...) to tiles of any layout."""
    if layout.endswith("_fragment"):
        return to_fragments(codes, bits, layout)
    if layout == "key":
        return _swap(words.reshape(*words.shape[:2], -1, TILE, words.shape[-1]))
    codes = codes.reshape(*codes.shape[:2], -1, TILE, codes.shape[-1])
    return _swap(pack(_swap(codes), bits))


def unpack_tiles(words: mx.array, head_dim: int, bits: int, layout: str) -> mx.array:
    """Codes (B, H, 32 tiles, head_dim) of tiles of any layout."""
    if layout.endswith("_fragment"):
        return from_fragments(words, head_dim, bits, layout)
    batch, heads, tiles = words.shape[:3]
    if layout == "key":
        codes = unpack(_swap(words), head_dim, bits)
    else:
        codes = _swap(unpack(_swap(words), TILE, bits))
    return codes.reshape(batch, heads, tiles * TILE, head_dim)


def _swap(x: mx.array) -> mx.array:
    return x.swapaxes(-1, -2)


def _centroids_of_tiles(
    words: mx.array, tiles: int, head_dim: int, bits: int, layout: str, codebook: str
) -> mx.array:
    """The vectors (B, H, 32 tiles, head_dim) before they are scaled, float32."""
    batch, heads = words.shape[:2]
    words = words[:, :, :tiles]
    if layout.endswith("_fragment"):
        return centroids(head_dim, bits, codebook)[unpack_tiles(words, head_dim, bits, layout)]
    if layout == "key":
        found = _unpack_centroids(_swap(words), head_dim, head_dim, bits, codebook)
    else:
        found = _swap(_unpack_centroids(_swap(words), TILE, head_dim, bits, codebook))
    return found.reshape(batch, heads, tiles * TILE, head_dim)


def _scales_of_tiles(scales: mx.array, tiles: int) -> mx.array:
    """(B, H, 1, 32 tiles), float32."""
    return scales[:, :, :tiles].flatten(2, 3)[:, :, None].astype(mx.float32)


def dequantize(
    words: mx.array,
    scales: mx.array,
    *,
    tiles: int,
    head_dim: int,
    bits: int,
    seed: int,
    layout: str,
    dtype: mx.Dtype,
    rotated: bool = False,
    codebook: str = "lloyd-max",
) -> mx.array:
    """Vectors of the first tiles; `operations.dequantize` says more."""
    y = _centroids_of_tiles(words, tiles, head_dim, bits, layout, codebook)
    y = y * _swap(_scales_of_tiles(scales, tiles))
    return (y if rotated else unrotate(y, seed)).astype(dtype)


def attend(q: mx.array, store: Packed, *, scale: float, sinks: mx.array | None = None) -> mx.array:
    """Attention over packed tiles and exact window; `operations.attend` says more."""
    if len(store.rows) > 1:
        rows = range(len(store.rows))
        return mx.concatenate([_attend(q[i : i + 1], store.row(i), scale, sinks) for i in rows])
    return _attend(q, store, scale, sinks)


def _attend(q: mx.array, store: Packed, scale: float, sinks: mx.array | None) -> mx.array:
    """Of rows that are alike."""
    batch, heads, length, key_dim = q.shape
    kv_heads, value_dim = store.exact_values.shape[1], store.exact_values.shape[-1]
    tiles, exact, unseen = store.rows[0]
    live = slice(unseen % TILE, None)  # of the packed tokens from tile `start` on
    start = unseen // TILE
    tiles -= start
    fragment = store.storage == "fragment"
    key_layout, value_layout = ("key_fragment", "value_fragment") if fragment else ("key", "value")
    grouped = q.astype(mx.float32).reshape(batch, kv_heads, -1, key_dim) * scale

    exact_keys = store.exact_keys[:, :, :exact].astype(mx.float32)
    if store.centre is not None:
        exact_keys = exact_keys - store.centre.astype(mx.float32)
    scores = (grouped @ _swap(exact_keys)).reshape(batch, heads, length, exact)
    if length > 1:
        seen = np.tril(np.ones((length, exact), bool), exact - length)
        scores = mx.where(mx.array(seen), scores, -mx.inf)
    scores = scores.reshape(batch, kv_heads, -1, exact)
    if tiles:
        rotated = rotate(grouped, store.key_seed) * float(key_dim**-0.5)
        words, scales = store.key_words[:, :, start:], store.key_scales[:, :, start:]
        keys = _centroids_of_tiles(
            words,
            tiles,
            key_dim,
            store.key_bits,
            key_layout,
            codebooks.side_kind(store.codebook, "key"),
        )
        packed = (rotated @ _swap(keys)) * _scales_of_tiles(scales, tiles)
        packed = packed[..., live]
        scores = mx.concatenate([packed, scores], axis=-1)

    split = scores.shape[-1] - exact
    if sinks is None:
        weights = mx.softmax(scores, axis=-1, precise=True)
    else:
        # The scores lack the query times the centre of the keys, and the sink has to.
        column = mx.repeat(sinks.astype(mx.float32), length).reshape(1, kv_heads, -1, 1)
        column = column - grouped @ _swap(store.centre_or_zero.astype(mx.float32))
        weights = mx.softmax(mx.concatenate([scores, column], axis=-1), axis=-1, precise=True)
        weights = weights[..., :-1]
    out = weights[..., split:] @ store.exact_values[:, :, :exact].astype(mx.float32)
    if tiles:
        words, scales = store.value_words[:, :, start:], store.value_scales[:, :, start:]
        value_kind = codebooks.side_kind(store.codebook, "value")
        values = _centroids_of_tiles(
            words, tiles, value_dim, store.value_bits, value_layout, value_kind
        )
        scaled = weights[..., :split] * _scales_of_tiles(scales, tiles)[..., live]
        out = out + unrotate(scaled @ values[:, :, live], store.value_seed)
    return out.reshape(batch, heads, length, value_dim).astype(q.dtype)
