"""One side of a layer, its keys or its values: packed tiles and a window of exact tokens.

It takes the same calls as a side that is exact (exact_side.py). Tokens are dropped from the front
only by a sliding window; the first `sinks` tokens never are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import mlx.core as mx

from tqgen_kernels.backends.packed import Layout
from tqgen_kernels.cache.by_heads import ALL_HEADS, Heads
from tqgen_kernels.cache.centre import centre_of
from tqgen_kernels.cache.exact_side import fits
from tqgen_kernels.execution import operations
from tqgen_kernels.execution.operations import MAX_Q_LEN
from tqgen_kernels.quant.codebook import CodebookKind
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.packing import TILE

GROW_TILES, GROW_SHARE = 8, 64  # packed buffers grow by 8 tiles or 1/64, whichever is more
FP16_MAX = 65504.0


@dataclass(frozen=True)
class SideScheme:
    """What one side stores. residual is at least MAX_Q_LEN: `attend` wants its queries' own
    tokens in the window."""

    bits: int
    seed: int
    layout: Layout
    sinks: int
    residual: int
    norm_correction: bool
    codebook: CodebookKind
    centre: bool = False

    @property
    def window(self) -> int:
        """Tokens that the window has room for."""
        return self.sinks + max(self.residual, MAX_Q_LEN) + TILE - 1


class PackedSide:
    """Tiles of codes, and a window of exact tokens: the sinks, then the newest.

    `first`: tokens at the start of the packed ones that a sliding window has dropped. Their tiles
    go some at a time: each time costs a copy of the others.
    `chunk`: a prompt chunk at hand, exact until `settle` or the next append packs it.
    `centre`: what the tokens in tiles were packed without, (B, H, 1, D), chosen with the first tile
    from the tokens then at hand. All that is exact is kept as it came, and whatever is read here
    has the centre in it again; attention takes it from the exact keys as it reads them. It is of
    the model's dtype, so that both sides of a softmax leave out the very same vector.
    """

    def __init__(self, scheme: SideScheme, like: mx.array) -> None:
        factor(like.shape[-1])
        self.scheme = scheme
        self.head_dim = like.shape[-1]
        self.words: mx.array | None = None
        self.scales: mx.array | None = None
        self.centre: mx.array | None = None
        batch, heads, _, dim = like.shape
        self.token, self.window = (batch, heads, 1, dim), scheme.window
        self.exact = mx.zeros((batch, heads, self.window, dim), like.dtype)
        self.chunk: mx.array | None = None
        self.tiles = self.first = self.count = 0

    @property
    def tokens(self) -> int:
        chunk = 0 if self.chunk is None else self.chunk.shape[2]
        return self.tiles * TILE - self.first + self.count + chunk

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, tokens, D) of all tokens."""
        batch, heads, _, dim = self.token
        return batch, heads, self.tokens, dim

    def fits(self, x: mx.array) -> bool:
        """Whether x can be tokens (B, H, L, D) of this side."""
        return fits(x, self.exact)

    def takes(self, x: mx.array) -> bool:
        """Whether x is one token that `write` takes as it is, with nothing else to do: most steps
        of most layers ask no more, so that this is kept cheap."""
        return (
            self.tiles > 0
            and self.count < self.window
            and self.chunk is None
            and x.shape == self.token
            and x.dtype == self.exact.dtype
        )

    def write(self, x: mx.array) -> None:
        """Add tokens x (B, H, L, D) to the window, which has room for them."""
        end = self.count + x.shape[2]
        self.exact[:, :, self.count : end] = x
        self.count = end

    def append(self, x: mx.array, hold: bool = False) -> None:
        """Add tokens x (B, H, L, D). hold: keep tokens that would be packed now as a chunk."""
        self.settle()
        x, length = x.astype(self.exact.dtype), x.shape[2]
        if self._leaving(length) == 0:
            self.write(x)
        elif length <= MAX_Q_LEN and not hold:
            (self._pack_one if self.tiles else self._pack)(x)
        else:
            self.chunk = x

    def settle(self) -> None:
        """Pack the chunk at hand, if there is one."""
        if self.chunk is not None:
            chunk, self.chunk = self.chunk, None
            self._pack(chunk)

    def seal(self) -> None:
        """Pack every token after the sinks. Raises ValueError unless they fill their tiles."""
        self.settle()
        sinks = self.scheme.sinks
        newest = self.count - sinks
        if newest < 0 or newest % TILE:
            raise ValueError(
                f"{self.count} tokens in the window cannot be sealed: not whole tiles."
            )
        if newest:
            self._pack_oldest(self.exact[:, :, sinks : self.count])
            self.count = sinks

    def shrink(self) -> None:
        """Give back what the packed buffers hold beyond their tiles."""
        if self.words is not None and self.scales is not None:
            tiles = slice(None), slice(None), slice(self.tiles)
            self.words, self.scales = (mx.contiguous(a[tiles]) for a in (self.words, self.scales))

    def _leaving(self, length: int) -> int:
        """Tiles that leave the window when it gets `length` more tokens."""
        room = self.scheme.window - TILE + 1
        return max(self.count + length - room, 0) // TILE

    def _pack_one(self, x: mx.array) -> None:
        """`_pack` in a decode step, where one tile leaves that is all in the window: with as few
        operations as that takes."""
        sinks = self.scheme.sinks
        self._add_tiles(self.exact[:, :, sinks : sinks + TILE])
        self.exact = mx.take(self.exact, _without_tile(sinks, self.window), axis=2)
        self.count -= TILE
        self.write(x)

    def _pack(self, x: mx.array) -> None:
        leaving, sinks = self._leaving(x.shape[2]), self.scheme.sinks
        recent = mx.concatenate([self.exact[:, :, : self.count], x], axis=2)
        split = sinks + leaving * TILE
        if leaving:
            self._pack_oldest(recent[:, :, sinks:], leaving)
        self.set_window([recent[:, :, :sinks], recent[:, :, split:]])

    def _pack_oldest(self, x: mx.array, tiles: int | None = None) -> None:
        """Encode the first tiles of the tokens x at hand, or all; the first ever set the centre."""
        if self.scheme.centre and not self.tiles:
            self.centre = centre_of(x)
        self._add_tiles(x if tiles is None else x[:, :, : tiles * TILE])

    def _add_tiles(self, x: mx.array) -> None:
        words, scales = encode(x, self.centre, self.scheme)
        start, self.tiles = self.tiles, self.tiles + words.shape[2]
        self.words = _write(self.words, words, start)
        self.scales = _write(self.scales, scales, start)

    def set_window(self, parts: list[mx.array]) -> None:
        """Put these tokens, in order, in place of what the window holds."""
        self.count = sum(part.shape[2] for part in parts)
        batch, heads, window, dim = self.exact.shape
        empty = mx.zeros((batch, heads, window - self.count, dim), self.exact.dtype)
        self.exact = mx.concatenate([*parts, empty], axis=2)

    def trim(self, n: int) -> None:
        """Forget the newest n tokens; a tile that is cut is decoded back to the window."""
        if self.chunk is not None:
            kept = max(self.chunk.shape[2] - n, 0)
            n -= self.chunk.shape[2] - kept
            self.chunk = self.chunk[:, :, :kept] if kept else None
        sinks = min(self.count, self.scheme.sinks)
        newest = min(n, self.count - sinks)
        self.count, n = self.count - newest, n - newest
        if not n:
            return
        packed = self.tiles * TILE
        left = packed - min(n, packed - self.first)
        n -= packed - left
        tiles, part = divmod(left, TILE)
        if part:
            tile = self.decoded(tiles, tiles + 1)[:, :, :part]
            skipped = max(self.first - tiles * TILE, 0)
            self.set_window([self.exact[:, :, :sinks], tile[:, :, skipped:]])
        self.tiles, self.first = tiles, min(self.first, tiles * TILE)
        self._leave_out_dropped_tiles()
        self.count -= n

    def drop(self, n: int) -> None:
        """Forget the oldest n tokens after the sinks."""
        self.settle()
        packed = min(n, self.tiles * TILE - self.first)
        self.first, n = self.first + packed, n - packed
        self._leave_out_dropped_tiles()
        if n:
            sinks = self.scheme.sinks
            self.set_window([self.exact[:, :, :sinks], self.exact[:, :, sinks + n : self.count]])

    def _leave_out_dropped_tiles(self) -> None:
        gone = self.first // TILE
        if not gone or self.words is None or self.scales is None:
            return
        if gone == self.tiles:
            self.words = self.scales = None
        elif gone >= min(GROW_TILES, self.tiles / 4):
            kept = slice(None), slice(None), slice(gone, None)
            self.words, self.scales = (mx.contiguous(a[kept]) for a in (self.words, self.scales))
        else:
            return
        self.tiles, self.first = self.tiles - gone, self.first % TILE

    def decoded(self, start: int, stop: int, heads: Heads = ALL_HEADS) -> mx.array:
        """The tokens (B, H, 32 n, D) of n = stop - start tiles of these heads, dequantised."""
        assert self.words is not None
        assert self.scales is not None
        words, scales = self.words, self.scales
        if start:
            words, scales = words[:, :, start:stop], scales[:, :, start:stop]
        words, scales = heads.waiting(words, scales)
        tokens = operations.dequantize(
            words,
            scales,
            tiles=stop - start,
            head_dim=self.head_dim,
            bits=self.scheme.bits,
            seed=self.scheme.seed,
            layout=self.scheme.layout,
            dtype=self.exact.dtype,
            codebook=self.scheme.codebook,
        )
        return tokens if self.centre is None else tokens + heads.of(self.centre)

    def contents(self, heads: Heads = ALL_HEADS) -> mx.array:
        """Every token (B, H, tokens, D) of these heads, the packed ones dequantised."""
        exact = heads.of(self.exact)
        parts = [exact[:, :, : self.count]]
        if self.tiles:
            sinks = self.scheme.sinks
            gone, dropped = divmod(self.first, TILE)
            packed = self.decoded(gone, self.tiles, heads)
            packed = packed[:, :, dropped:] if dropped else packed
            parts = [packed, exact[:, :, sinks : self.count]]
            if sinks:
                parts.insert(0, exact[:, :, :sinks])
        if self.chunk is not None:
            chunk = heads.of(self.chunk)
            parts = [*parts, chunk] if self.tiles or self.count else [chunk]
        return parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=2)

    @property
    def arrays(self) -> list[mx.array]:
        """Everything that is allocated."""
        held = (self.words, self.scales, self.centre, self.exact, self.chunk)
        return [array for array in held if array is not None]

    @arrays.setter
    def arrays(self, arrays: list[mx.array]) -> None:
        arrays = list(arrays)
        if self.words is not None:
            self.words, self.scales, *arrays = arrays
        if self.centre is not None:
            self.centre, *arrays = arrays
        self.exact, *arrays = arrays
        if self.chunk is not None:
            (self.chunk,) = arrays


def encode(x: mx.array, centre: mx.array | None, s: SideScheme) -> tuple[mx.array, mx.array]:
    """Words and scales of tokens x (B, H, 32 n, D) less their centre."""
    if centre is not None:
        x = x - centre
        if x.dtype == mx.float16:  # a key far from all before it
            x = mx.clip(x, -FP16_MAX, FP16_MAX)
    return operations.encode(
        x,
        bits=s.bits,
        seed=s.seed,
        layout=s.layout,
        norm_correction=s.norm_correction,
        codebook=s.codebook,
    )


@lru_cache(maxsize=16)
def _without_tile(start: int, size: int) -> mx.array:
    """Where each of `size` tokens comes from when a tile that begins at `start` leaves; at the end
    the last one stands in."""
    at = mx.arange(size, dtype=mx.int32)
    order = mx.where(at < start, at, mx.minimum(at + TILE, size - 1))
    mx.eval(order)
    return order


def _write(buffer: mx.array | None, tiles: mx.array, start: int) -> mx.array:
    """`tiles` (B, H, n, ...) written into `buffer` from tile `start` on, in place where it fits."""
    stop = start + tiles.shape[2]
    capacity = 0 if buffer is None else buffer.shape[2]
    if stop > capacity:
        capacity = max(stop, capacity + max(GROW_TILES, capacity // GROW_SHARE))
        batch, heads, _, *tile = tiles.shape
        parts = [tiles, mx.zeros((batch, heads, capacity - stop, *tile), tiles.dtype)]
        if buffer is not None and start:
            parts.insert(0, buffer[:, :, :start])
        return mx.concatenate(parts, axis=2)
    assert buffer is not None
    buffer[:, :, start:stop] = tiles
    return buffer
