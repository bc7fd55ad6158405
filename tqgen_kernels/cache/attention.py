"""The one hook: mx.fast.scaled_dot_product_attention recognises the handles of a compressed cache.

mlx-lm looks that function up at call time, in whatever order modules were imported, and models
that bypass mlx-lm's own wrapper call it too.
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx

from tqgen_kernels.cache.by_heads import Heads, attend_by_heads
from tqgen_kernels.cache.handles import Handle

plain_attention = mx.fast.scaled_dot_product_attention


class Attendable(Protocol):
    """A cache whose handles attention may dispatch on."""

    version: int

    def contents(self, heads: Heads = ...) -> tuple[mx.array, mx.array]:
        """Keys and values (B, H, tokens, D) of these heads, dequantised."""

    def notice(self, q: mx.array, scale: float) -> None:
        """See the queries of an attention over these handles, before it is answered."""

    def attend(
        self,
        q: mx.array,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array | None:
        """Attention over the packed store, or None where the dequantised content must do."""


def scaled_dot_product_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
    sinks: mx.array | None = None,
    **options: Any,
) -> mx.array:
    """mx.fast.scaled_dot_product_attention, read from the packed store where k and v come from it.

    The packed path takes up to 8 queries under a causal mask, or any mask that a kernel reads, and
    attention sinks; a longer prompt chunk is read packed where tuning chose a kernel for it.
    Everything else (other chunks, keys that serve as values) attends to the dequantised content, a
    few heads of it at a time.
    """
    if type(k) is Handle and type(v) is Handle:
        cache, version, _ = k.origin
        of_now = v.origin is k.origin and version == cache.version
        if of_now and k.side == "key" and v.side == "value":
            cache.notice(q, scale)
            out = cache.attend(q, scale, mask, sinks)
            if out is None:
                options |= {"scale": scale, "mask": mask, "sinks": sinks}
                out = attend_by_heads(plain_attention, q, k, v, **options)
            return out
    if type(k) is Handle:
        k = k.content()
    if type(v) is Handle:
        v = v.content()
    return plain_attention(q, k, v, scale=scale, mask=mask, sinks=sinks, **options)


def apply_patch() -> None:
    """Let attention read compressed caches. May be called again, before or after a model loads."""
    mx.fast.scaled_dot_product_attention = scaled_dot_product_attention


def is_patched() -> bool:
    """Whether MLX's attention is the hook itself, with nothing over it."""
    return mx.fast.scaled_dot_product_attention is scaled_dot_product_attention


def remove_patch() -> None:
    """Put MLX's own function back. Compressed caches go on working, by dequantised content."""
    if is_patched():
        mx.fast.scaled_dot_product_attention = plain_attention
