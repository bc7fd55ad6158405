"""BatchTurboQuantKVCache: several sequences in one layer, each packed as it would be alone."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask

from tqgen_kernels.cache.attention import is_patched, plain_attention
from tqgen_kernels.cache.by_heads import ALL_HEADS, Heads
from tqgen_kernels.cache.handles import CausalMask, StoredArrays, blank_handles, handles
from tqgen_kernels.cache.stack import Stack
from tqgen_kernels.cache.state import State, check, check_int, fields_of, opened, sealed
from tqgen_kernels.cache.store import Store
from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.cache.uses import only_attends
from tqgen_kernels.execution.operations import MAX_Q_LEN
from tqgen_kernels.execution.operations import attend as attend_rows
from tqgen_kernels.quant.scheme import Guard, Scheme


class BatchTurboQuantKVCache:
    """What mlx-lm's BatchKVCache does, with a TurboQuantKVCache a row.

    A row packs, trims and attends just as it would alone, so that a batch gives each sequence its
    own result; padding is never stored. Keys and values that models see are (B, H, width, D), each
    row's tokens behind its left padding, as BatchKVCache has them.

    Decode steps find the rows stacked: in shared arrays, for one launch. Whatever changes a row or
    the batch takes the rows apart first, and the next decode step stacks them again.

    left_padding: tokens at the start of each row of the input that are padding. The scheme and
    any_dim are as in TurboQuantKVCache.
    """

    row_class: type[TurboQuantKVCache] = TurboQuantKVCache
    step = TurboQuantKVCache.step

    def __init__(
        self,
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
        self._hold([TurboQuantKVCache(scheme=chosen, any_dim=any_dim) for _ in left_padding], 0)
        self._pad_left(left_padding)

    def _hold(self, rows: list[TurboQuantKVCache], width: int) -> None:
        self._rows = rows
        self._stack: Stack | None = None  # what the rows hold, while they are stacked
        self.width = width  # tokens of a row with its padding
        self.version = 0
        self._coming = [0] * len(rows)  # left padding that the input still brings
        self._garbage = [0] * len(rows)  # right padding that the input has brought
        self._lengths: list[int] | None = None  # tokens before the right padding begins
        self._moved()

    @property
    def rows(self) -> list[TurboQuantKVCache]:
        """Each row as a cache of its own, to look at."""
        if self._stack is None:
            return self._rows
        rows = [copy.copy(row) for row in self._rows]
        for row, store in zip(rows, self._stack.stores(), strict=True):
            row.store = store
        return rows

    def _apart(self) -> list[TurboQuantKVCache]:
        """Each row as a cache of its own, to change."""
        self._rows, self._stack = self.rows, None
        return self._rows

    def _stacked(self, length: int) -> Stack | None:
        """The rows stacked for `length` more tokens of each, or None where that cannot be."""
        plain = length <= MAX_Q_LEN and self._lengths is None and len(self._rows) > 1
        if not plain or any(self._coming) or any(self._garbage):
            self._apart()
        elif self._stack is not None:
            waiting = self._stack.unproved()
            if waiting and not set(waiting).isdisjoint(self._stack.leaving(length)):
                self._apart()  # the row's guard judges its first tile
        else:
            self._stack = Stack.of([row.store for row in self._rows])
            for row in self._rows if self._stack else ():
                row.store = Store(row.store.scheme)  # the stack holds what it held
        return self._stack

    def _moved(self) -> None:
        """Positions have changed. A new array each time: models may still hold the last one."""
        self.version += 1
        pads = zip(self._rows, self._garbage, self._coming, strict=True)
        self._offsets = [row.offset + garbage - coming for row, garbage, coming in pads]
        self.offset = mx.array(self._offsets, mx.int32)

    def _pad_left(self, padding: Iterable[int]) -> None:
        pads = zip(self._coming, padding, strict=True)
        self._coming = [coming + int(more) for coming, more in pads]
        self._moved()

    @property
    def left_padding(self) -> mx.array:
        """Padding tokens before each row, (B,) int32."""
        return mx.array([self.width - offset for offset in self._offsets], mx.int32)

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Add keys (B, H, L, D) and values (B, H, L, Dv), padding left out."""
        if keys.shape[0] != len(self._rows):
            raise ValueError(f"This cache has {len(self._rows)} rows, and got {keys.shape[0]}.")
        length = keys.shape[2]
        stack = self._stacked(length)
        if stack is None:
            self._append_apart(keys, values)
        else:
            stack.append(keys, values)
            for row in self._rows:
                row.offset += length
        self.width += length
        self._no_tokens = keys[:1, :, :0], values[:1, :, :0]
        self._moved()

    def _append_apart(self, keys: mx.array, values: mx.array) -> None:
        length = keys.shape[2]
        for i, row in enumerate(self._rows):
            start = min(self._coming[i], length)
            stop = length if self._lengths is None else min(start + self._lengths[i], length)
            self._coming[i] -= start
            if self._lengths is not None:
                self._lengths[i] -= stop - start
            if start < stop:
                new = (i, slice(None), slice(start, stop))
                row.append(keys[new][None], values[new][None])
            self._garbage[i] += length - stop

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys (B, H, L, D) and values (B, H, L, Dv), padding left out; returns handles."""
        self.append(keys, values)
        if is_patched() and only_attends(sys._getframe(1)):
            (batch, heads, _, key_dim), width = keys.shape, self._seen_width()
            shapes = (batch, heads, width, key_dim), (batch, heads, width, values.shape[3])
            return blank_handles(self, *shapes, self._dtype(keys.dtype))
        return self.keys_and_values()

    def _dtype(self, new: mx.Dtype) -> mx.Dtype:
        """Of what is held: that of the first tokens."""
        if self._stack is not None:
            return self._stack.keys.exact.dtype
        return next((row.store.keys.exact.dtype for row in self.rows if row.store.keys), new)

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        """Handles on keys (B, H, width, D) and values (B, H, width, Dv), padding zero."""
        return handles(self, *self.contents())

    def contents(self, heads: Heads = ALL_HEADS) -> tuple[mx.array, mx.array]:
        """Keys (B, H, width, D) and values (B, H, width, Dv) of these heads, dequantised, padding
        zero."""
        width = self._seen_width()
        known = self.rows
        rows = [self._row_contents(known, i, width, heads) for i in range(len(known))]
        keys, values = (mx.concatenate([row[side] for row in rows], axis=0) for side in (0, 1))
        return keys, values

    def _seen_width(self) -> int:
        return self.width

    def _row_contents(
        self, rows: list[TurboQuantKVCache], i: int, width: int, heads: Heads
    ) -> list[mx.array]:
        row = rows[i]
        sides = self._nothing(rows, heads) if row.empty() else row.store.contents(heads)
        held = sides[0].shape[2]
        right = min(self._garbage[i], width - held)
        pads = [(0, 0), (0, 0), (width - held - right, right), (0, 0)]
        padded = pads[2] != (0, 0)
        return [mx.pad(side, pads) if padded else side for side in sides]

    def _nothing(self, rows: list[TurboQuantKVCache], heads: Heads) -> tuple[mx.array, mx.array]:
        """Keys and values of no tokens, of the shapes and dtype that other rows have."""
        known = next((row.store.contents(heads) for row in rows if not row.empty()), None)
        if known is None:
            return heads.of(self._no_tokens[0]), heads.of(self._no_tokens[1])
        return known[0][:, :, :0], known[1][:, :, :0]

    def notice(self, q: mx.array, scale: float) -> None:
        """Show each row's queries in q (B, Hq, L, D), without right padding, to its guard."""
        if self._stack is not None:
            for i in self._stack.unproved():
                self._stack.notice(i, q[i : i + 1], scale)
            return
        for i, row in enumerate(self._rows):
            tokens = q.shape[2] - self._garbage[i]
            if row.store.unproved and tokens > 0:
                row.store.notice(q[i : i + 1, :, :tokens], scale)

    def attend(
        self,
        q: mx.array,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array | None:
        """Attention of the newest q.shape[2] tokens of each row, under this cache's own mask."""
        if isinstance(mask, mx.array):
            ours = type(mask) is CausalMask and mask.rows == (self.width, *self._offsets)
        else:
            ours = mask == "causal" or q.shape[2] == 1
            ours = ours and all(offset == self.width for offset in self._offsets)
        if not ours or any(self._garbage) or any(self._coming) or q.shape[2] > MAX_Q_LEN:
            return None
        if self._stack is not None:
            return attend_rows(q, self._stack.packed(), scale=scale, sinks=sinks)
        rows = self._rows
        if not any(row.store.packed() for row in rows) or any(row.empty() for row in rows):
            return None
        out = [self._attend_row(row, q[i : i + 1], scale, sinks) for i, row in enumerate(rows)]
        return mx.concatenate(out, axis=0)

    def _attend_row(
        self, row: TurboQuantKVCache, q: mx.array, scale: float, sinks: mx.array | None
    ) -> mx.array:
        mask = None if q.shape[2] == 1 else "causal"
        out = row.attend(q, scale, mask, sinks)
        if out is None:
            out = plain_attention(q, *row.store.contents(), scale=scale, mask=mask, sinks=sinks)
        return out

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The boolean mask (B, 1, N, width + N) of the next N tokens: causal and left padding."""
        padding = self.left_padding
        mask = create_causal_mask(N, self.width, window_size=window_size, left_padding=padding)
        return mask if window_size is not None else self.causal_mask(mask, N)

    def causal_mask(self, mask: mx.array, N: int) -> CausalMask:
        """The mask, marked as causal and nothing else for the next N tokens of this batch."""
        marked = CausalMask(mask)
        marked.rows = (self.width + N, *(offset + N for offset in self._offsets))
        return marked

    def prepare(
        self,
        *,
        left_padding: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        right_padding: Sequence[int] | None = None,
    ) -> None:
        """Say what of the coming input is padding. Raises ValueError as mlx-lm's does."""
        if left_padding is not None:
            if not self.empty():
                raise ValueError(
                    f"Left padding can only be added to an empty {type(self).__name__}"
                )
            self._pad_left(left_padding)
        if right_padding is not None and max(right_padding) > 0:
            if lengths is None:
                raise ValueError("Give lengths= with right_padding=: the tokens of each row.")
            self._lengths = [int(length) for length in lengths]

    def finalize(self) -> None:
        """The right-padded input is through: what it padded becomes left padding."""
        self._lengths = None
        self._garbage = [0] * len(self._rows)
        self._moved()

    def filter(self, batch_indices: Any) -> None:
        """Keep the rows of these indices, in their order."""
        kept = [int(i) for i in batch_indices]
        rows = self._apart()
        self._rows = [rows[i] for i in kept]
        self._coming = [self._coming[i] for i in kept]
        self._garbage = [self._garbage[i] for i in kept]
        if self._lengths is not None:
            self._lengths = [self._lengths[i] for i in kept]
        self._moved()
        self._close_up()

    def _close_up(self) -> None:
        """Leave out padding that all rows have."""
        self.width -= max(min((self.width - o for o in self._offsets), default=0), 0)

    def extend(self, other: BatchTurboQuantKVCache) -> None:
        """Take over the rows of another batch, after this one's own."""
        self._rows = self._apart() + other._apart()
        self._coming = self._coming + other._coming
        self._garbage = self._garbage + other._garbage
        self.width = max(self.width, other.width)
        self._moved()

    def extract(self, idx: int) -> TurboQuantKVCache:
        """Row idx as a cache of its own."""
        row = copy.deepcopy(self.rows[idx])
        row.store.settle()
        for side in row.store.sides():
            side.arrays = [mx.contiguous(array) for array in side.arrays]  # not the whole batch's
        return row

    @classmethod
    def merge(cls, caches: Sequence[TurboQuantKVCache]) -> BatchTurboQuantKVCache:
        """A batch with a row for each cache. Their arrays are shared until either is written."""
        if not all(isinstance(cache, cls.row_class) for cache in caches):
            raise ValueError(f"A {cls.__name__} has rows of {cls.row_class.__name__} alone.")
        batch = cls.__new__(cls)
        rows = [copy.deepcopy(cache) for cache in caches]
        batch._hold(rows, max((row.offset for row in rows), default=0))
        return batch

    @property
    def keys(self) -> StoredArrays | None:
        """The stored arrays of the keys of all rows, None while empty."""
        return self._stored("keys", 0)

    @keys.setter
    def keys(self, arrays: list[mx.array]) -> None:
        left = list(arrays)
        if self._stack is not None:
            self._stack.keys.arrays = left
            return
        for row in self._rows:
            count = len(row.keys or ())
            if count:
                row.keys, left = left[:count], left[count:]

    @property
    def values(self) -> StoredArrays | None:
        """The stored arrays of the values of all rows, None while empty."""
        return self._stored("values", 1)

    def _stored(self, name: str, side: int) -> StoredArrays | None:
        if self._stack is not None:
            arrays = getattr(self._stack, name).arrays
        else:
            arrays = [array for row in self._rows for array in getattr(row, name) or ()]
        return StoredArrays(arrays, lambda: self.contents()[side]) if arrays else None

    @property
    def state(self) -> State:
        """The rows' states, and what is padding."""
        stores = [row.store for row in self._rows] if self._stack is None else [self._stack]
        return State(stores, self._canonical)

    @state.setter
    def state(self, value: Any) -> None:
        states, width, padding, *rest = opened(fields_of(value, 4))
        check(not rest and isinstance(states, list | tuple), "rows", "not a list of states")
        rows = [self.row_class.from_state(state) for state in states]
        fits = isinstance(padding, mx.array) and padding.shape == (2, len(rows))
        fits = fits and padding.dtype == mx.int32 and bool(mx.all(padding >= 0).item())
        check(fits, "padding", "not two counts a row")
        self._hold(rows, check_int("width", width, 0, 2**30))
        table: Any = padding.tolist()
        self._coming, self._garbage = table
        self._moved()

    @classmethod
    def from_state(cls, state: Any, meta_state: Any = None) -> BatchTurboQuantKVCache:
        """A batch from its `state`. Raises ValueError that says what is wrong with it."""
        cache = cls.__new__(cls)
        cache.state = state
        return cache

    def _canonical(self) -> tuple[Any, ...]:
        padding = mx.array([self._coming, self._garbage], mx.int32)
        return sealed([list(row.state) for row in self.rows], self.width, padding)

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        """Forget the newest n tokens of every row, padding included; returns how many."""
        n = max(min(n, self.width), 0)
        for i, row in enumerate(self._apart()):
            padding = min(self._garbage[i], n)
            self._garbage[i] -= padding
            row.trim(n - padding)
        self.width -= n
        self._moved()
        return n

    def size(self) -> int:
        return self.width

    def empty(self) -> bool:
        return self._stack is None and all(row.empty() for row in self._rows)

    @property
    def nbytes(self) -> int:
        """Everything that is allocated by all rows."""
        if self._stack is not None:
            return self._stack.nbytes
        return sum(row.nbytes for row in self._rows)
