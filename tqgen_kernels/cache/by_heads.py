"""Attention over dequantised keys and values, a few heads at a time.

A prompt chunk attends to all that is in the cache. Dequantised at once, that takes as much memory
as one layer's cache in the model's dtype; heads do not see each other, so that a few are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

if TYPE_CHECKING:
    from tqgen_kernels.cache.handles import Handle

GROUP_BYTES = 16 * 2**20  # of dequantised keys and values at a time; one head at least


@dataclass(frozen=True)
class Heads:
    """Some of the key/value heads of a cache, to be dequantised once `after` is there."""

    which: slice | None = None  # all
    after: tuple[mx.array, ...] = ()

    def of(self, x: mx.array) -> mx.array:
        """These heads of x (B, H, ...)."""
        return x if self.which is None else x[:, self.which]

    def waiting(self, *arrays: mx.array) -> list[mx.array]:
        """These heads of arrays (B, H, ...), not to be read before `after` is there."""
        own = [self.of(x) for x in arrays]
        return list(mx.depends(own, list(self.after))) if self.after else own


ALL_HEADS = Heads()


def heads_at_a_time(k: mx.array, v: mx.array, group_bytes: int) -> int:
    """Key/value heads whose keys k (B, H, T, D) and values v (B, H, T, Dv) fit group_bytes."""
    batch, heads, tokens, key_dim = k.shape
    nbytes = batch * heads * tokens * (key_dim + v.shape[3]) * k.itemsize
    groups = max(1, -(-nbytes // group_bytes))
    return max(1, heads // groups)


def attend_by_heads(
    attention: Callable[..., mx.array],
    q: mx.array,
    k: Handle,
    v: Handle,
    *,
    mask: mx.array | str | None,
    sinks: mx.array | None,
    group_bytes: int | None = None,
    **options: Any,
) -> mx.array:
    """attention(q, keys, values, mask=, sinks=, ...) over what fresh handles k and v stand for.

    q (B, Hq, L, D); a mask may differ by head, sinks (Hq,) do. Each group of heads waits for the
    one before it, so that no two are dequantised at once: group_bytes of keys and values.
    """
    heads = k.shape[1]
    gqa = q.shape[1] // heads
    each = heads_at_a_time(k, v, group_bytes or GROUP_BYTES)
    if each == heads:
        return attention(q, *k.origin.cache.contents(ALL_HEADS), mask=mask, sinks=sinks, **options)
    parts: list[mx.array] = []
    for first in range(0, heads, each):
        which = slice(first, min(first + each, heads))
        rows = slice(which.start * gqa, which.stop * gqa)
        keys, values = k.origin.cache.contents(Heads(which, tuple(parts[-1:])))
        own_mask, own_sinks = _of_heads(mask, rows), None if sinks is None else sinks[rows]
        parts.append(attention(q[:, rows], keys, values, mask=own_mask, sinks=own_sinks, **options))
    return mx.concatenate(parts, axis=1)


def _of_heads(mask: mx.array | str | None, rows: slice) -> mx.array | str | None:
    """The rows of a mask (..., Hq or 1, L, T) that are for these query heads."""
    if isinstance(mask, mx.array) and mask.ndim > 2 and mask.shape[-3] > 1:
        return mask[..., rows, :, :]
    return mask
