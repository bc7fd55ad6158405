"""Arrays that a model takes for keys and values, and that know the store they came from.

A Handle is an mx.array whose lazy content is the dequantised tensor: whatever a model does with it
is right. Attention that recognises it reads the packed store, and the content is never computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import mlx.core as mx

if TYPE_CHECKING:
    from tqgen_kernels.cache.attention import Attendable


class Handle(mx.array):
    """Refers to the cache, not to its arrays: those must be free to be updated in place."""

    cache: Attendable
    side: Literal["key", "value"]
    version: int

    @classmethod
    def of(
        cls, content: mx.array, cache: Attendable, side: Literal["key", "value"], version: int
    ) -> Handle:
        handle = cls(content)
        handle.cache, handle.side, handle.version = cache, side, version
        return handle


class CausalMask(mx.array):
    """A boolean mask that a batch cache made: causal and left padding, nothing else.

    `rows` names the rows and the length that it was made for.
    """

    rows: tuple[int, ...]
