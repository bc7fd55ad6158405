"""TurboQuantKVCache: in the place of mlx-lm's KVCache, compressed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache, QuantizedKVCache, create_attention_mask

from tqgen_kernels.cache.attention import is_patched
from tqgen_kernels.cache.by_heads import ALL_HEADS, Heads
from tqgen_kernels.cache.exact_side import GROW_EXACT
from tqgen_kernels.cache.handles import StoredArrays, blank_handles, handles
from tqgen_kernels.cache.state import State, read, write
from tqgen_kernels.cache.store import Store
from tqgen_kernels.cache.uses import only_attends
from tqgen_kernels.execution.operations import MAX_Q_LEN, attend, attend_masked
from tqgen_kernels.execution.prefill import prefill
from tqgen_kernels.quant.scheme import Guard, Scheme


class TurboQuantKVCache:
    """An mlx-lm cache (>= 0.32.1) of one layer that holds keys and values compressed.

    bits, or key_bits and value_bits, or scheme (a Scheme or the name of one) say how; nothing
    given is the default Scheme. A side whose bits are None stays in the model's dtype. Keys and
    values are (batch, kv_heads, tokens, head_dim), float32, float16 or bfloat16; the two head_dims
    may differ.
    any_dim: keep a side whose head_dim has no rotation uncompressed, with a warning; otherwise
    such a head_dim raises ValueError at the first update.

    Method: TurboQuant (arXiv 2504.19874, section 3), the newest and the first tokens exact.
    `apply_patch()` makes attention read the packed form; without it every step dequantises.
    """

    step = GROW_EXACT  # mlx-lm's name for the tokens by which buffers grow

    def __init__(
        self,
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
        self._hold(Store(chosen, any_dim))

    def _hold(self, store: Store) -> None:
        self.store = store
        self.version = 0  # of the contents: a handle of an older one is just an array
        self.offset = store.tokens

    @property
    def scheme(self) -> Scheme:
        return self.store.scheme

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Add keys (B, H, L, D) and values (B, H, L, Dv)."""
        self.store.append(keys, values)
        self.offset += keys.shape[2]
        self.version += 1

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys (B, H, L, D) and values (B, H, L, Dv); returns handles on all tokens."""
        self.append(keys, values)
        shapes = self.store.shapes()
        if shapes and is_patched() and only_attends(sys._getframe(1)):
            return blank_handles(self, *shapes)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """Handles on all tokens: keys (B, H, offset, D) and values (B, H, offset, Dv)."""
        return handles(self, *self.store.contents())

    def contents(self, heads: Heads = ALL_HEADS) -> tuple[mx.array, mx.array]:
        """All tokens of these heads, dequantised: keys (B, H, offset, D) and values
        (B, H, offset, Dv)."""
        return self.store.contents(heads)

    def notice(self, q: mx.array, scale: float) -> None:
        """Show the queries q (B, Hq, L, D) of the newest tokens to the guard, while it waits."""
        if self.store.unproved:
            self.store.notice(q, scale)

    def attend(
        self,
        q: mx.array,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array | None:
        """Attention of the newest q.shape[2] tokens, if the packed store can answer."""
        if q.shape[2] > MAX_Q_LEN:
            return self._attend_chunk(q, scale, mask, sinks)
        if not isinstance(mask, mx.array):
            out = self.store.attend_fresh(q, scale, sinks)
            if out is not None:
                return out
        packed = self.store.packed()
        if packed is None or (mask is None and q.shape[2] > 1):
            return None
        if isinstance(mask, mx.array):
            return attend_masked(q, packed, mask, scale=scale, sinks=sinks)
        return attend(q, packed, scale=scale, sinks=sinks)

    def _attend_chunk(
        self, q: mx.array, scale: float, mask: mx.array | str | None, sinks: mx.array | None
    ) -> mx.array | None:
        """By the kernel that tuning chose; None where it chose none, or the mask is an array."""
        packed = None if isinstance(mask, mx.array) else self.store.packed(chunk=True)
        if packed is None:
            return None
        return prefill(q, packed, scale=scale, causal=mask == "causal", sinks=sinks)

    @property
    def keys(self) -> StoredArrays | None:
        """The stored arrays of the keys, None while empty. Pipeline-parallel models set it to the
        same arrays made to depend on a message."""
        side = self.store.keys
        return None if side is None else StoredArrays(side.arrays, side.contents)

    @keys.setter
    def keys(self, arrays: list[mx.array]) -> None:
        if self.store.keys is None:
            raise ValueError("This cache is empty: there are no keys to replace.")
        self.store.keys.arrays = arrays

    @property
    def values(self) -> StoredArrays | None:
        """The stored arrays of the values, None while empty."""
        side = self.store.values
        return None if side is None else StoredArrays(side.arrays, side.contents)

    @property
    def state(self) -> State:
        """What a prompt-cache file stores: `cache/state.py` says what it holds."""
        return State([self.store], lambda: write(self.store))

    @state.setter
    def state(self, value: Any) -> None:
        store, _ = read(value)
        self._hold(store)

    @classmethod
    def from_state(cls, state: Any, meta_state: Any = None) -> TurboQuantKVCache:
        """A cache from its `state`. Raises ValueError that says what is wrong with it."""
        cache = cls.__new__(cls)
        cache.state = state
        return cache

    @classmethod
    def from_kv_cache(
        cls,
        cache: KVCache,
        bits: int | None = None,
        *,
        key_bits: int | None = None,
        value_bits: int | None = None,
        scheme: Scheme | str | None = None,
    ) -> TurboQuantKVCache:
        """What mlx-lm's KVCache holds, compressed: say after a prompt was processed in fp16.

        Raises ValueError for any other cache.
        """
        if not isinstance(cache, KVCache | TurboQuantKVCache):
            raise ValueError(f"A KVCache can be compressed so, a {type(cache).__name__} cannot.")
        made = cls(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme)
        if cache.keys is not None and cache.offset:
            plain: Any = cache
            made.append(*plain.keys_and_values())
            made.store.settle()
        return made

    def to_kv_cache(self) -> KVCache:
        """An mlx-lm KVCache with the same tokens, dequantised to the model's dtype."""
        plain: Any = KVCache
        cache = plain()
        if self.offset:
            cache.update_and_fetch(*self.store.contents())
        return cache  # type: ignore[no-any-return]

    def to_quantized(self, group_size: int = 64, bits: int = 4) -> QuantizedKVCache:
        """What mlx-lm makes of a cache where `kv_bits` is given: the same tokens in its own
        quantisation, which replaces this one."""
        return self.to_kv_cache().to_quantized(group_size=group_size, bits=bits)

    @classmethod
    def merge(cls, caches: Sequence[TurboQuantKVCache]) -> Any:
        """A BatchTurboQuantKVCache with a row for each of these."""
        from tqgen_kernels.cache.batch import BatchTurboQuantKVCache

        return BatchTurboQuantKVCache.merge(caches)

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        """Forget the newest n tokens; returns how many were there to forget.

        A tile that is cut goes back to the exact window as decoded, and is encoded anew later.
        """
        n = self.store.trim(max(n, 0))
        self.offset -= n
        self.version += 1
        return n

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The mask of the next N tokens: None, "causal", or boolean (N, offset + N)."""
        return create_attention_mask(N, self.offset, return_array, window_size)

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.store.keys is None

    @property
    def plain_nbytes(self) -> int:
        """What the same tokens take in the model's dtype."""
        return self.store.plain_nbytes

    @property
    def nbytes(self) -> int:
        """Everything that is allocated: codes, scales, exact windows, slack."""
        return self.store.nbytes
