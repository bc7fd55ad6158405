"""One side of a layer, its keys or its values, in the model's dtype: a side without bits, or one
whose head_dim has no rotation. It takes the same calls as a packed side (side.py)."""

from __future__ import annotations

import mlx.core as mx

from tqgen_kernels.cache.by_heads import ALL_HEADS, Heads

GROW_EXACT = 256  # tokens by which a buffer grows


class ExactSide:
    """A side that stays in the model's dtype, in a buffer that grows in place."""

    def __init__(self, sinks: int, like: mx.array) -> None:
        self.sinks = sinks
        self.chunk = None  # tokens never wait to be packed
        batch, heads, _, dim = like.shape
        self.exact = mx.zeros((batch, heads, 0, dim), like.dtype)
        self.first = self.count = 0  # the tokens after the sinks start at sinks + first

    @property
    def tokens(self) -> int:
        return self.count - self.first

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, tokens, D) of all tokens."""
        batch, heads, _, dim = self.exact.shape
        return batch, heads, self.tokens, dim

    def fits(self, x: mx.array) -> bool:
        """Whether x can be tokens (B, H, L, D) of this side."""
        return fits(x, self.exact)

    def append(self, x: mx.array, hold: bool = False) -> None:
        """Add tokens x (B, H, L, D). There is nothing to hold back."""
        end = self.count + x.shape[2]
        batch, heads, capacity, dim = self.exact.shape
        if end > capacity:
            more = -(-(end - capacity) // GROW_EXACT) * GROW_EXACT
            empty = mx.zeros((batch, heads, more, dim), self.exact.dtype)
            self.exact = mx.concatenate([self.exact, empty], axis=2)
        self.exact[:, :, self.count : end] = x.astype(self.exact.dtype)
        self.count = end

    def settle(self) -> None:
        """Nothing: there is nothing to pack."""

    def seal(self) -> None:
        """Nothing: there is nothing to pack."""

    def shrink(self) -> None:
        """Give back what the buffer holds beyond the tokens."""
        self.exact = mx.contiguous(self.exact[:, :, : self.count])

    def trim(self, n: int) -> None:
        """Forget the newest n tokens."""
        after = self.count - self.first - self.sinks
        self.count -= min(n, max(after, 0)) if self.first else n
        if self.first and n > after:
            self.count, self.first = self.sinks - (n - after), 0

    def drop(self, n: int) -> None:
        """Forget the oldest n tokens after the sinks."""
        self.first += n
        if self.first >= GROW_EXACT:
            self.exact = mx.contiguous(self.contents())
            self.first, self.count = 0, self.exact.shape[2]

    def contents(self, heads: Heads = ALL_HEADS) -> mx.array:
        """Every token (B, H, tokens, D) of these heads."""
        exact = heads.of(self.exact)
        if not self.first:
            return exact[:, :, : self.count]
        newest = exact[:, :, self.sinks + self.first : self.count]
        if not self.sinks:
            return newest
        return mx.concatenate([exact[:, :, : self.sinks], newest], axis=2)

    @property
    def arrays(self) -> list[mx.array]:
        """Everything that is allocated."""
        return [self.exact]

    @arrays.setter
    def arrays(self, arrays: list[mx.array]) -> None:
        (self.exact,) = arrays


def fits(x: mx.array, like: mx.array) -> bool:
    """Whether x (B, H, L, D) can be tokens of a buffer `like`."""
    if x.ndim != 4 or not (mx.issubdtype(x.dtype, mx.floating) or x.dtype == like.dtype):
        return False
    (batch, heads, _, dim), (b, h, _, d) = like.shape, x.shape
    return (batch, heads, dim) == (b, h, d)
