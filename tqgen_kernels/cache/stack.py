"""The rows of a batch in shared arrays, so that a decode step is one encode and one attend for all.

A row keeps its own counts. Each row packs at the token at which it would pack alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache

import mlx.core as mx
import numpy as np

from tqgen_kernels.backends.packed import Packed
from tqgen_kernels.cache.centre import centre_of
from tqgen_kernels.cache.side import GROW_SHARE, GROW_TILES, PackedSide, encode
from tqgen_kernels.cache.store import Store
from tqgen_kernels.codegen.families.attend import Row
from tqgen_kernels.codegen.families.vectors import tile_shape
from tqgen_kernels.quant.packing import TILE


class StackedSide:
    """Keys or values of all rows: words and scales (B, H, capacity, ...), exact (B, H, window, D)
    and centre (B, H, 1, D), zero for a row without tiles; None where nothing is centred."""

    def __init__(self, sides: Sequence[PackedSide]) -> None:
        first = sides[0]
        self.scheme = first.scheme
        capacity = max(side.tiles for side in sides) + GROW_TILES
        tile = tile_shape(first.head_dim, self.scheme.bits, self.scheme.layout)
        words = [(side.words, side.tiles) for side in sides]
        scales = [(side.scales, side.tiles) for side in sides]
        self.words = _together(words, capacity, (first.exact.shape[1], *tile), mx.uint32)
        self.scales = _together(scales, capacity, (first.exact.shape[1], TILE), mx.float16)
        self.exact = mx.concatenate([side.exact for side in sides])
        self.centre: mx.array | None = None
        if self.scheme.centre:
            none = mx.zeros_like(first.exact[:, :, :1])
            held = [side.centre if side.tiles else None for side in sides]
            self.centre = mx.concatenate([none if c is None else c for c in held])

    def write(self, starts: tuple[int, ...], x: mx.array) -> None:
        """Tokens x (B, H, L, D) into the window, row i's from token starts[i] on."""
        x = x.astype(self.exact.dtype)
        length = x.shape[2]
        if len(set(starts)) == 1:
            self.exact[:, :, starts[0] : starts[0] + length] = x
        else:
            self.exact = mx.put_along_axis(self.exact, _places(starts, length), x, axis=2)

    def shift(self, by: tuple[int, ...]) -> None:
        """Leave out row i's by[i] oldest exact tokens after the sinks."""
        order = _shifted(by, self.scheme.sinks, self.scheme.window)
        self.exact = mx.take_along_axis(self.exact, order, axis=2)

    def pack(self, leaving: list[int], rows: Sequence[Row], new: mx.array) -> None:
        """The oldest tile of the window of the rows `leaving`; new: the tokens that are coming."""
        s = self.scheme
        chosen = mx.array(leaving)
        x = self.exact[chosen][:, :, s.sinks : s.sinks + TILE]
        if self.centre is not None:
            for i in leaving:
                if rows[i].live_tiles == 0:
                    recent = self.exact[i : i + 1, :, s.sinks : rows[i].exact]
                    recent = mx.concatenate([recent, new[i : i + 1].astype(recent.dtype)], axis=2)
                    self.centre[i : i + 1] = centre_of(recent)
        words, scales = encode(x, None if self.centre is None else self.centre[chosen], s)
        tiles = mx.array([rows[i].tiles for i in leaving])
        self.words[chosen, :, tiles] = words[:, :, 0]
        self.scales[chosen, :, tiles] = scales[:, :, 0]

    def move_tiles(self, by: tuple[int, ...], capacity: int) -> None:
        """Room for `capacity` tiles, row i without its first by[i] ones."""
        if any(by):
            order = _shifted(by, 0, self.words.shape[2])
            self.words = mx.take_along_axis(self.words, order[..., None], axis=2)
            self.scales = mx.take_along_axis(self.scales, order, axis=2)
        more = capacity - self.words.shape[2]
        if more > 0:
            room = [(0, 0), (0, 0), (0, more), (0, 0)]
            self.words = mx.pad(self.words, [*room, (0, 0)])
            self.scales = mx.pad(self.scales, room)

    def put_row(self, i: int, row: Row, side: PackedSide) -> None:
        """Row i into `side`, as it would be alone."""
        start = row.unseen // TILE
        side.tiles, side.first, side.count = row.live_tiles, row.unseen % TILE, row.exact
        side.exact, side.chunk = self.exact[i : i + 1], None
        side.words = side.scales = side.centre = None
        if side.tiles:
            side.words = self.words[i : i + 1, :, start : row.tiles]
            side.scales = self.scales[i : i + 1, :, start : row.tiles]
            side.centre = None if self.centre is None else self.centre[i : i + 1]

    @property
    def arrays(self) -> list[mx.array]:
        """Everything that is allocated."""
        held = (self.words, self.scales, self.exact, self.centre)
        return [array for array in held if array is not None]

    @arrays.setter
    def arrays(self, arrays: list[mx.array]) -> None:
        self.words, self.scales, self.exact, *centre = arrays
        if centre:
            (self.centre,) = centre


class Stack:
    """Both sides of all rows, and what each row holds of them."""

    def __init__(self, stores: Sequence[Store], rows: list[Row]) -> None:
        self.rows = rows
        sides = [store.sides() for store in stores]
        self.keys = StackedSide([keys for keys, _ in sides])  # type: ignore[misc]
        self.values = StackedSide([values for _, values in sides])  # type: ignore[misc]
        # What the rows have beside their arrays, which are released.
        self._stores = [_without_arrays(store) for store in stores]

    @classmethod
    def of(cls, stores: Sequence[Store]) -> Stack | None:
        """The stack of these stores, or None where they do not fit together: an empty row, a side
        that is exact, other schemes or dtypes."""
        rows = []
        for store in stores:
            store.settle()
            keys, values = store.keys, store.values
            if not isinstance(keys, PackedSide) or not isinstance(values, PackedSide):
                return None
            row, other = (Row(s.tiles, s.count, s.first) for s in (keys, values))
            if row != other:
                return None
            rows.append(row)
        kinds = {
            (side.scheme, side.exact.shape, side.exact.dtype) for store in stores
            for side in store.sides() if isinstance(side, PackedSide)
        }  # fmt: skip
        fit = len(kinds) <= 2 and all(store.storage == stores[0].storage for store in stores)
        return cls(stores, rows) if fit and stores else None

    def sides(self) -> tuple[StackedSide, StackedSide]:
        return self.keys, self.values

    def settle(self) -> None:
        """Nothing: there is no chunk at hand."""

    def tokens(self) -> list[int]:
        """Of each row."""
        return [row.tiles * TILE - row.unseen + row.exact for row in self.rows]

    def unproved(self) -> list[int]:
        """The rows whose guard waits for their first tile."""
        pairs = zip(self.rows, self._stores, strict=True)
        return [i for i, (r, s) in enumerate(pairs) if not r.live_tiles and s.scheme.guard != "off"]

    def notice(self, i: int, q: mx.array, scale: float) -> None:
        """Show queries q (1, Hq, L, D) to the guard of row i."""
        self._stores[i].notice(q, scale)

    def leaving(self, length: int) -> list[int]:
        """The rows of which a tile leaves the window when they get `length` more tokens."""
        full = self.keys.scheme.window + 1 - length
        return [i for i, row in enumerate(self.rows) if row.exact >= full]

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Add tokens keys (B, H, L, D) and values (B, H, L, Dv), L at most MAX_Q_LEN."""
        length = keys.shape[2]
        leaving = self.leaving(length)
        if leaving:
            self._make_room(max(self.rows[i].tiles for i in leaving) + 1)
            for side, x in zip(self.sides(), (keys, values), strict=True):
                side.pack(leaving, self.rows, x)
            self._shift([TILE * (i in leaving) for i in range(len(self.rows))])
            for i in leaving:
                self.rows[i] = self.rows[i]._replace(tiles=self.rows[i].tiles + 1)
        starts = tuple(row.exact for row in self.rows)
        for side, x in zip(self.sides(), (keys, values), strict=True):
            side.write(starts, x)
        self.rows = [Row(row.tiles, row.exact + length, row.unseen) for row in self.rows]

    def drop(self, counts: Sequence[int]) -> None:
        """Forget the oldest counts[i] tokens of row i after its sinks; nothing where it is < 1."""
        wanted = [max(n, 0) for n in counts]
        packed = [
            min(n, row.tiles * TILE - row.unseen) for n, row in zip(wanted, self.rows, strict=True)
        ]
        pairs = zip(self.rows, packed, strict=True)
        self.rows = [row._replace(unseen=row.unseen + n) for row, n in pairs]
        self._shift([n - p for n, p in zip(wanted, packed, strict=True)])

    def _shift(self, by: list[int]) -> None:
        if any(by):
            for side in self.sides():
                side.shift(tuple(by))
            pairs = zip(self.rows, by, strict=True)
            self.rows = [row._replace(exact=row.exact - n) for row, n in pairs]

    def _make_room(self, tiles: int) -> None:
        """For that many tiles a row, those that no row sees any more left out."""
        capacity = self.keys.words.shape[2]
        if tiles <= capacity:
            return
        gone = [row.unseen // TILE for row in self.rows]
        pairs = zip(self.rows, gone, strict=True)
        self.rows = [Row(r.tiles - n, r.exact, r.unseen - n * TILE) for r, n in pairs]
        most = max(row.tiles for row in self.rows) + 1
        if most > capacity:
            capacity += max(GROW_TILES, capacity // GROW_SHARE)
        for side in self.sides():
            side.move_tiles(tuple(gone), capacity)

    def packed(self) -> Packed:
        """What `operations.attend` reads."""
        k, v = self.keys, self.values
        return Packed(
            k.words,
            k.scales,
            v.words,
            v.scales,
            k.exact,
            v.exact,
            tuple(self.rows),
            k.scheme.bits,
            v.scheme.bits,
            k.scheme.seed,
            v.scheme.seed,
            self._stores[0].scheme.codebook,
            self._stores[0].storage or "tiles",
            k.centre,
            value_threshold=self._stores[0].scheme.value_threshold,
        )

    def stores(self) -> list[Store]:
        """Each row's store, over parts of the shared arrays."""
        found = []
        for i, (row, shell) in enumerate(zip(self.rows, self._stores, strict=True)):
            store = _without_arrays(shell)
            for stacked, side in zip(self.sides(), store.sides(), strict=True):
                stacked.put_row(i, row, side)  # type: ignore[arg-type]
            found.append(store)
        return found

    @property
    def nbytes(self) -> int:
        """Everything that is allocated."""
        return sum(array.nbytes for side in self.sides() for array in side.arrays)


def _without_arrays(store: Store) -> Store:
    """A store that is like this one and has sides of no tokens."""
    keys, values = (copy.copy(side) for side in store.sides())
    shell = copy.copy(store)
    shell.keys, shell.values = keys, values
    for side in shell.sides():
        side.exact = side.exact[:, :, :0]
        if isinstance(side, PackedSide):
            side.words = side.scales = side.centre = side.chunk = None
    return shell


def _together(
    parts: Sequence[tuple[mx.array | None, int]],
    capacity: int,
    shape: tuple[int, ...],
    dtype: mx.Dtype,
) -> mx.array:
    """The first tiles of each part (1, H, tiles, ...), one row each, with room for `capacity`."""
    heads, *tile = shape
    rows = []
    for array, tiles in parts:
        if array is None or not tiles:
            rows.append(mx.zeros((1, heads, capacity, *tile), dtype))
        else:
            room = [(0, 0), (0, 0), (0, capacity - tiles), *[(0, 0)] * len(tile)]
            rows.append(mx.pad(array[:, :, :tiles], room))
    return mx.concatenate(rows)


# The same for both sides of all layers, so made once a step.
@lru_cache(maxsize=64)
def _places(starts: tuple[int, ...], length: int) -> mx.array:
    """(B, 1, length, 1): where the new tokens of each row go."""
    places = np.array(starts, np.int32)[:, None] + np.arange(length, dtype=np.int32)
    return mx.array(places[:, None, :, None])


@lru_cache(maxsize=64)
def _shifted(by: tuple[int, ...], kept: int, size: int) -> mx.array:
    """(B, 1, size, 1): where each element comes from when by[i] after the first `kept` go."""
    at = np.arange(size, dtype=np.int32)
    order = np.where(at < kept, at, np.minimum(at + np.array(by, np.int32)[:, None], size - 1))
    return mx.array(order[:, None, :, None])
