"""RotatingTurboQuantKVCache: in the place of mlx-lm's RotatingKVCache, compressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import RotatingKVCache

from tqgen_kernels.cache.state import State, check, check_int, read, write
from tqgen_kernels.cache.store import Store
from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.quant.scheme import Guard, Scheme

MAX_TOKENS = 2**30


class RotatingTurboQuantKVCache(TurboQuantKVCache):
    """The newest max_size tokens of one layer, compressed, and the first `keep` ones exact.

    The scheme is named as in TurboQuantKVCache; its sinks are the `keep` tokens. Tokens stay in the
    order they came, where mlx-lm's own class writes over the oldest in place: the masks of
    `make_mask` fit the arrays of `update_and_fetch`. Raises ValueError unless 0 <= keep < max_size.
    """

    def __init__(
        self,
        max_size: int,
        keep: int = 0,
        bits: int | None = None,
        *,
        key_bits: int | None = None,
        value_bits: int | None = None,
        scheme: Scheme | str | None = None,
        guard: Guard | None = None,
        any_dim: bool = False,
    ) -> None:
        if not (isinstance(max_size, int) and isinstance(keep, int) and 0 <= keep < max_size):
            raise ValueError(
                f"max_size {max_size!r} must be above keep {keep!r}, and that above -1."
            )
        chosen = Scheme.of(
            bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme, guard=guard
        )
        self.max_size, self.keep = max_size, keep
        self._hold(Store(replace(chosen, sinks=keep), any_dim))

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Add keys (B, H, L, D) and values (B, H, L, Dv), each of which sees max_size tokens."""
        self.make_room()
        super().append(keys, values)

    def make_room(self) -> None:
        """Drop what lies more than max_size - 1 tokens back."""
        self.store.drop(self.store.tokens - self.max_size + 1)

    @property
    def state(self) -> State:
        """As of TurboQuantKVCache; then offset, keep and max_size."""
        own = (self.offset, self.keep, self.max_size)
        return State([self.store], lambda: write(self.store, *own))

    @state.setter
    def state(self, value: Any) -> None:
        store, own = read(value)
        check(len(own) == 3, "window", f"{len(own)} fields, not offset, keep and max_size")
        self._hold(store)
        self.offset = check_int("offset", own[0], store.tokens, MAX_TOKENS)
        self.keep = check_int("keep", own[1], store.scheme.sinks, store.scheme.sinks)
        self.max_size = check_int("max_size", own[2], self.keep + 1, MAX_TOKENS)

    @classmethod
    def merge(cls, caches: Sequence[TurboQuantKVCache]) -> Any:
        """A BatchRotatingTurboQuantKVCache with a row for each of these."""
        from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache

        return BatchRotatingTurboQuantKVCache.merge(caches)

    @classmethod
    def from_kv_cache(
        cls,
        cache: RotatingKVCache,  # type: ignore[override]
        bits: int | None = None,
        *,
        key_bits: int | None = None,
        value_bits: int | None = None,
        scheme: Scheme | str | None = None,
    ) -> RotatingTurboQuantKVCache:
        """What mlx-lm's RotatingKVCache holds, compressed. ValueError for any other cache."""
        if not isinstance(cache, RotatingKVCache):
            raise ValueError(
                f"A RotatingKVCache can be compressed so, a {type(cache).__name__} cannot."
            )
        plain: Any = cache
        named: Any = {"key_bits": key_bits, "value_bits": value_bits, "scheme": scheme}
        made = cls(plain.max_size, plain.keep, bits, **named)
        if plain.keys is not None and plain.offset:
            held = (plain._temporal_order(side) for side in (plain.keys, plain.values))
            made.append(*held)
            made.store.settle()
            made.offset = plain.offset
        return made

    def to_kv_cache(self) -> RotatingKVCache:  # type: ignore[override]
        """An mlx-lm RotatingKVCache with the same tokens, dequantised to the model's dtype."""
        make: Any = RotatingKVCache
        plain = make(self.max_size, self.keep)
        if self.offset:
            plain.update_and_fetch(*self.store.contents())
            plain.offset = self.offset
        return plain  # type: ignore[no-any-return]

    def to_quantized(self, group_size: int = 64, bits: int = 4) -> NoReturn:
        """As in mlx-lm, there is no quantised cache of a sliding window: NotImplementedError."""
        raise NotImplementedError("A sliding window is compressed as it is: leave kv_bits out.")

    def is_trimmable(self) -> bool:
        return self.offset < self.max_size

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The mask of the next N tokens over what update_and_fetch will return."""
        window = window_size or self.max_size
        held = min(self.max_size - 1, self.offset)
        if N == 1:
            return None if held < window else mx.arange(held + 1) > held - window
        if held + N > window or return_array:
            return create_causal_mask(N, held, window_size=window)
        return "causal"

    def size(self) -> int:
        return min(self.offset, self.max_size)
