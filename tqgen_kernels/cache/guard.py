"""Does a scheme suit a layer? Asked once, when the first tiles are packed and all is still at hand.

Quantisation noise grows with the length of a vector. A model whose keys carry a long constant (the
key bias of Qwen 2.5) gets scores that are noise from bits that suit every other model: it talks
nonsense, and nothing else says so. Such a layer keeps its keys in 8 bits, or exact if those are
not enough: the store is then as if it had been given that scheme from the start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import mlx.core as mx

from tqgen_kernels.cache.exact_side import ExactSide
from tqgen_kernels.cache.side import FP16_MAX, PackedSide
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.scheme import Scheme

KEY_BOUND = 0.75  # nats; layers of a sound model reach 0.1 with 4 bits, 0.3 with 3, 1 with 2
SAFE_BITS, SAFE_BOUND = 8, 0.04  # what 4 bits cost the middle one of sound layers
QUERIES = 8  # the newest of a chunk: every packed token is older than any of them
TILES = 4  # of the packed ones, the newest

_log = logging.getLogger(__name__)
_said: set[tuple[str, str, Scheme, Scheme]] = set()


@dataclass(frozen=True)
class Queries:
    """The newest queries (B, Hq, n, D) that attention has seen, and its softmax scale."""

    q: mx.array
    scale: float


@dataclass(frozen=True)
class Fault:
    """A side that its codes cannot carry: keys whose `key_error` is beyond its bound, or vectors
    beyond the range of a scale (error None)."""

    side: Literal["keys", "values"]
    error: float | None


def newest(q: mx.array, scale: float) -> Queries:
    """What a check needs of the queries q (B, Hq, L, D)."""
    return Queries(q[:, :, -QUERIES:], scale)


def fault(
    sides: Sequence[PackedSide | ExactSide],
    exact: tuple[mx.array, mx.array],
    queries: Queries | None,
) -> Fault | None:
    """What is wrong with keys and values that have just been packed, or None.

    sides: keys and values. exact: the same tokens as they came, keys (B, H, T, D) and values
    (B, H, T, Dv), nothing dropped. queries: None where attention was not seen, and keys are then
    not judged.
    """
    keys = sides[0]
    error, bound = mx.array(0.0), 0.0
    if isinstance(keys, PackedSide) and queries is not None:
        error = key_error(queries, *_packed(keys, exact[0]))
        bound = key_bound(keys.scheme.bits)
    checks = mx.stack([error, *(overflow(side) for side in sides)])
    numbers: Any = checks.tolist()  # the only wait for the device
    error_of_keys, long_keys, long_values = numbers
    if long_keys:
        return Fault("keys", None)
    if not error_of_keys <= bound:  # NaN is beyond it
        return Fault("keys", error_of_keys)
    return Fault("values", None) if long_values else None


def _packed(side: PackedSide, exact: mx.array) -> tuple[mx.array, mx.array]:
    """The newest packed tokens as they came, and as they are stored."""
    start = max(side.tiles - TILES, 0)
    sinks = side.scheme.sinks
    came = exact[:, :, sinks + start * TILE : sinks + side.tiles * TILE]
    return came, side.decoded(start, side.tiles)


def key_error(queries: Queries, exact: mx.array, stored: mx.array) -> mx.array:
    """What stored keys do to attention: KL(exact || stored) in nats, of its weights over these
    tokens alone: the mean over queries, and of that the largest over rows and key/value heads.

    exact, stored (B, H, T, D). A vector that all keys share changes nothing, as in attention.
    """
    batch, heads, _, dim = exact.shape
    q = (queries.q.astype(mx.float32) * queries.scale).reshape(batch, heads, -1, dim)
    wanted, found = (_log_weights(q, keys) for keys in (exact, stored))
    kl = mx.sum(mx.exp(wanted) * (wanted - found), axis=-1)
    kl = mx.where(mx.isnan(wanted).any(-1), 0, kl)  # the model's own: not for codes to mend
    return mx.max(mx.mean(kl, axis=-1))


def _log_weights(q: mx.array, keys: mx.array) -> mx.array:
    scores = q @ keys.astype(mx.float32).swapaxes(-1, -2)
    return scores - mx.logsumexp(scores, axis=-1, keepdims=True)


def key_bound(bits: int) -> float:
    """The largest key_error allowed, nats: who asks for 2 bits or 1 accepts more, and the bits that
    mend a layer are to make it as good as any."""
    if bits >= SAFE_BITS:
        return SAFE_BOUND
    return KEY_BOUND * 4.0 ** max(3 - bits, 0)


def overflow(side: PackedSide | ExactSide) -> mx.array:
    """1.0 if vectors are too long for float16: their scale, which `encode` cuts off at the end of
    the range, or in a float16 model their coordinates, some of which are 4 times the scale."""
    if isinstance(side, ExactSide) or side.scales is None:
        return mx.array(0.0)
    limit = FP16_MAX / 4 if side.exact.dtype == mx.float16 else FP16_MAX
    return mx.any(side.scales[:, :, : side.tiles] >= limit).astype(mx.float32)


def safer(scheme: Scheme, found: Fault) -> Scheme:
    """The next scheme to try: 8-bit keys, then exact ones; exact values."""
    if found.side == "values":
        return replace(scheme, value_bits=None)
    more = found.error is not None and scheme.key_bits is not None and scheme.key_bits < SAFE_BITS
    return replace(scheme, key_bits=SAFE_BITS if more else None)


def say(layer: str, found: Fault, given: Scheme, kept: Scheme) -> None:
    """One log line; one alone where a process makes many caches for the same layer."""
    if (said := (layer, found.side, given, kept)) in _said:
        return
    _said.add(said)
    what = f"{found.side} are too large for float16 codes"
    if found.error is not None and given.key_bits is not None:
        bits, bound = given.key_bits, key_bound(given.key_bits)
        what = f"{bits}-bit keys change attention by {found.error:.2g} nats, {bound:g} are allowed"
    _log.warning("%s: %s; %s.", layer, what, _kept(given, kept))


def _kept(given: Scheme, kept: Scheme) -> str:
    if kept == given:
        return "they are stored so all the same (guard='warn')"
    sides = (("keys", given.key_bits, kept.key_bits), ("values", given.value_bits, kept.value_bits))
    changes = [
        f"{name} {'stay exact' if now is None else f'take {now} bits'}"
        for name, before, now in sides
        if now != before
    ]
    return " and ".join(changes)
