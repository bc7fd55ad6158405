"""BatchRotatingTurboQuantKVCache: several sequences under a sliding window in one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask

from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.quant.scheme import Guard, Scheme


class BatchRotatingTurboQuantKVCache(BatchTurboQuantKVCache):
    """What mlx-lm's BatchRotatingKVCache does, with a RotatingTurboQuantKVCache a row.

    All rows have the same max_size. `width` counts the longest row's tokens, seen or not.
    """

    row_class = RotatingTurboQuantKVCache
    _rows: list[RotatingTurboQuantKVCache]  # type: ignore[assignment]
    _newest = 0  # tokens of the last update

    def __init__(
        self,
        max_size: int,
        left_padding: Sequence[int],
        bits: int | None = None,
        *,
        key_bits: int | None = None,
        value_bits: int | None = None,
        scheme: Scheme | str | None = None,
        guard: Guard | None = None,
        any_dim: bool = False,
    ) -> None:
        chosen = Scheme.of(
            bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme, guard=guard
        )
        options: Any = {"scheme": chosen, "any_dim": any_dim}
        self._hold([RotatingTurboQuantKVCache(max_size, **options) for _ in left_padding], 0)
        self._pad_left(left_padding)

    def _hold(self, rows: list[Any], width: int) -> None:
        if len({row.max_size for row in rows}) > 1:
            raise ValueError("A batch can only take sliding windows of the same max_size.")
        super()._hold(rows, width)
        self.max_size = rows[0].max_size if rows else 1

    def append(self, keys: mx.array, values: mx.array) -> None:
        """As of BatchTurboQuantKVCache, over at most max_size - 1 earlier tokens."""
        if self._stack is not None:
            self._stack.drop([tokens - self.max_size + 1 for tokens in self._stack.tokens()])
        else:
            for row in self._rows:
                row.make_room()
        self._newest = keys.shape[2]
        super().append(keys, values)

    def _tokens(self) -> list[int]:
        """That each row holds."""
        if self._stack is not None:
            return self._stack.tokens()
        return [row.store.tokens for row in self._rows]

    def _seen_width(self) -> int:
        newest = min(self._newest, self.width)
        held = max(self._tokens())
        return max(held, min(self.max_size - 1, self.width - newest) + newest)

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The boolean mask (B, 1, N, seen + N) of the next N tokens: causal, window, padding."""
        window = window_size or self.max_size
        seen = min(self.max_size - 1, self.width)
        if self.width + N <= window:
            return super().make_mask(N)
        held = [min(tokens, self.max_size - 1) for tokens in self._tokens()]
        pads = zip(held, self._garbage, self._coming, strict=True)
        padding = mx.array([seen - h - garbage + coming for h, garbage, coming in pads])
        mask = create_causal_mask(N, seen, window_size=window, left_padding=padding)
        # One query sees all that its row holds: where the window is max_size, nothing is cut.
        return self.causal_mask(mask, N) if N == 1 and window == self.max_size else mask

    def is_trimmable(self) -> bool:
        return self.width < self.max_size

    def size(self) -> int:
        return min(self.width, self.max_size)
