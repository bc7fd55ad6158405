"""Keys and values of one sequence (or of rows of equal length) in one layer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Literal

import mlx.core as mx

from tqgen_kernels import backends
from tqgen_kernels.backends.packed import Layout, Packed, Storage, no_tiles
from tqgen_kernels.cache import guard
from tqgen_kernels.cache.by_heads import ALL_HEADS, Heads
from tqgen_kernels.cache.exact_side import ExactSide
from tqgen_kernels.cache.side import PackedSide, SideScheme
from tqgen_kernels.codegen.families.attend import Row
from tqgen_kernels.codegen.problem import EXACT
from tqgen_kernels.execution import operations
from tqgen_kernels.execution.operations import MAX_Q_LEN
from tqgen_kernels.execution.storage import storage_for
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.scheme import Scheme

Side = PackedSide | ExactSide
_DTYPES = (mx.float32, mx.float16, mx.bfloat16)
_log = logging.getLogger(__name__)


class Store:
    """Both sides of a layer under one scheme. Empty until the first update tells the shapes.

    sealed: the tokens up to the last `seal` that `trim` has not undone.

    any_dim: a side whose head_dim has no rotation stays exact, with one warning, as does one of
    integers; otherwise it is a ValueError.
    storage: the layout of the packed tiles; None for what suits the device.
    scheme: as given, until its guard finds that it does not suit this layer: then a safer one, and
    the store is as if it had been given that. label: how the guard calls this layer.
    """

    def __init__(
        self, scheme: Scheme, any_dim: bool = False, storage: Storage | None = None
    ) -> None:
        self.scheme = scheme
        self.storage = storage
        self.any_dim = any_dim
        self._keys: Side | None = None
        self._values: Side | None = None
        self._fresh: tuple[mx.array, mx.array] | None = None  # one token, of which no side knows
        self.label = "A layer"
        self.queries: guard.Queries | None = None  # the newest, until tiles are packed
        self.sealed = 0

    @property
    def keys(self) -> Side | None:
        """None while empty."""
        if self._fresh is not None:
            self._write_fresh()
        return self._keys

    @keys.setter
    def keys(self, side: Side | None) -> None:
        self._keys = side

    @property
    def values(self) -> Side | None:
        """None while empty."""
        if self._fresh is not None:
            self._write_fresh()
        return self._values

    @values.setter
    def values(self, side: Side | None) -> None:
        self._values = side

    @property
    def tokens(self) -> int:
        return 0 if self.keys is None else self.keys.tokens

    def append(self, keys: mx.array, values: mx.array) -> None:
        """Add tokens: keys (B, H, L, D), values (B, H, L, Dv). Raises ValueError on a mismatch."""
        if self._held_back(keys, values):
            return
        if self.keys is None or self.values is None:
            check_update(keys, values, self.any_dim)
            self.settle_storage(keys, values)
            both = self.side("key", keys), self.side("value", values)
            self.keys, self.values = both
        elif not (
            self.keys.fits(keys) and self.values.fits(values) and keys.shape[2] == values.shape[2]
        ):
            check_update(keys, values, self.any_dim)
            batch, heads, _, dim = self.keys.exact.shape
            raise ValueError(
                f"Keys {keys.shape} and values {values.shape} do not fit this cache of {batch} x "
                f"{heads} heads of {dim} and {self.values.exact.shape[3]}."
            )
        self.settle()
        unproved = self.unproved
        self.keys.append(keys, unproved)
        self.values.append(values, unproved)
        if unproved and keys.shape[2] <= MAX_Q_LEN:
            self.settle()

    def _held_back(self, keys: mx.array, values: mx.array) -> bool:
        """Whether this is one token for windows with room, as at most steps of most layers.

        Then it waits: attention writes the windows as it reads them (`attend_fresh`), and so does
        whatever asks for a side.
        """
        if self._fresh is not None:
            self._write_fresh()
        k, v = self._keys, self._values
        if type(k) is not PackedSide or type(v) is not PackedSide:
            return False
        if not (k.takes(keys) and v.takes(values)):
            return False
        self._fresh = keys, values
        return True

    def _write_fresh(self) -> None:
        k, v, fresh = self._keys, self._values, self._fresh
        if fresh is not None and type(k) is PackedSide and type(v) is PackedSide:
            self._fresh = None
            k.write(fresh[0])
            v.write(fresh[1])

    def attend_fresh(
        self, q: mx.array, scale: float, sinks: mx.array | None = None
    ) -> mx.array | None:
        """Attention of the token that waits, which goes into the windows with it; None where none
        does, or no kernel."""
        if self._fresh is None or q.shape[2] != 1:
            return None
        if any(x.dtype != q.dtype for x in self._fresh):  # the windows are written in q's dtype
            return None
        packed = self._packed(self._keys, self._values)
        if packed is None:
            return None
        found = operations.attend_fresh(q, packed, *self._fresh, scale=scale, sinks=sinks)
        if found is None:
            return None
        out, keys, values = found
        self._fresh = None
        for side, window in ((self._keys, keys), (self._values, values)):
            assert type(side) is PackedSide
            side.exact, side.count = window, side.count + 1
        return out

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...], mx.Dtype] | None:
        """Shapes of all keys and of all values, and their dtype; None while empty."""
        k, v = self._keys, self._values
        if k is None or v is None:
            return None
        if self._fresh is None:
            return k.shape, v.shape, k.exact.dtype
        (batch, heads, tokens, dim), value_dim = k.shape, v.shape[3]
        longer = (batch, heads, tokens + 1)
        return (*longer, dim), (*longer, value_dim), k.exact.dtype

    def settle_storage(self, keys: mx.array, values: mx.array) -> None:
        """Choose the layout of the packed tiles, once the head_dims are known."""
        if self.storage is None:
            self.storage = storage_for(self.scheme, keys.shape[-1], values.shape[-1])

    def side(self, which: Literal["key", "value"], like: mx.array) -> Side:
        """An empty side for tokens like these. Raises ValueError for an unsupported head_dim."""
        s = self.scheme
        bits = s.key_bits if which == "key" else s.value_bits
        if bits is not None and self.any_dim and not _can_be_rotated(like):
            bits = None
        if bits is None:
            return ExactSide(s.sinks, like)
        seed = s.key_seed if which == "key" else s.value_seed
        layout: Layout = which
        if self.storage == "fragment":
            layout = "key_fragment" if which == "key" else "value_fragment"
        centre = s.centre and s.sinks > 0 and which == "key"
        own = (s.sinks, s.residual, s.norm_correction, side_kind(s.codebook, which), centre)
        return PackedSide(SideScheme(bits, seed, layout, *own), like)

    def sides(self) -> tuple[Side, ...]:
        """Keys and values, or nothing while empty."""
        return () if self.keys is None or self.values is None else (self.keys, self.values)

    def settle(self) -> None:
        """Pack the prompt chunk at hand."""
        if any(side.chunk is not None for side in self.sides()):
            self._pack(_settle)

    @property
    def unproved(self) -> bool:
        """Whether the guard has yet to see what the first tiles do to this layer."""
        if self.scheme.guard == "off":
            return False
        k, v = self._keys, self._values
        return (type(k) is PackedSide and not k.tiles) or (type(v) is PackedSide and not v.tiles)

    def notice(self, q: mx.array, scale: float) -> None:
        """Remember the newest of the queries q (B, Hq, L, D): the guard asks them."""
        self.queries = guard.newest(q, scale)

    def _pack(self, pack: Callable[[Side], None]) -> None:
        """Pack both sides; where these are the first tiles, by a scheme that suits the layer."""
        exact = self.contents() if self.unproved else None
        for side in self.sides():
            pack(side)
        if exact is None or not any(map(_tiles, self.sides())):
            return
        queries, self.queries = self.queries, None
        found = guard.fault(self.sides(), exact, queries)
        if found is None:
            return
        before, first = self.scheme, found
        while found is not None and self.scheme.guard == "on":
            self._start_again(guard.safer(self.scheme, found), *exact)
            for side in self.sides():
                pack(side)
            found = guard.fault(self.sides(), exact, queries)
        guard.say(self.label, first, before, self.scheme)

    def _start_again(self, scheme: Scheme, keys: mx.array, values: mx.array) -> None:
        self.scheme, self.storage = scheme, None
        self.settle_storage(keys, values)
        self.keys, self.values = self.side("key", keys), self.side("value", values)
        self.keys.append(keys, hold=True)
        self.values.append(values, hold=True)

    def seal(self) -> None:
        """Pack every token after the sinks, so that cutting the store back to this length gives
        this very state again. Raises ValueError unless those tokens fill their tiles."""
        self._pack(_seal)
        self.sealed = self.tokens

    def shrink(self) -> None:
        """Give back the memory that buffers hold beyond the tokens."""
        for side in self.sides():
            side.shrink()

    def trim(self, n: int) -> int:
        """Forget the newest n tokens, or all there are; returns how many."""
        n = min(n, self.tokens)
        for side in self.sides():
            side.trim(n)
        self.sealed = min(self.sealed, self.tokens)
        return n

    def drop(self, n: int) -> None:
        """Forget the oldest n tokens after the sinks."""
        if n > 0:
            self.settle()
            for side in self.sides():
                side.drop(n)

    def contents(self, heads: Heads = ALL_HEADS) -> tuple[mx.array, mx.array]:
        """Keys (B, H, tokens, D) and values (B, H, tokens, Dv) of these heads, dequantised. Not
        while empty."""
        keys, values = self.sides()
        return keys.contents(heads), values.contents(heads)

    def packed(self, chunk: bool = False) -> Packed | None:
        """What `operations.attend` reads, or None where it cannot: nothing packed yet, a chunk at
        hand, both sides exact, or one where no kernel reads it. chunk: of two packed sides, that
        one stands at the end of the window."""
        return self._packed(self.keys, self.values, chunk)

    def _packed(self, k: Side | None, v: Side | None, chunk: bool = False) -> Packed | None:
        if not isinstance(k, PackedSide) or not isinstance(v, PackedSide):
            return None if chunk else self._packed_side()
        if k.words is None or v.words is None or k.scales is None or v.scales is None:
            return None
        if not k.tiles or (k.chunk is not None and not chunk):
            return None
        keys, values, exact = k.exact, v.exact, k.count
        if k.chunk is not None and v.chunk is not None:
            keys = mx.concatenate([k.exact[:, :, : k.count], k.chunk], axis=2)
            values = mx.concatenate([v.exact[:, :, : v.count], v.chunk], axis=2)
            exact = keys.shape[2]
        return Packed(
            k.words,
            k.scales,
            v.words,
            v.scales,
            keys,
            values,
            (Row(k.tiles, exact, k.first),),
            k.scheme.bits,
            v.scheme.bits,
            k.scheme.seed,
            v.scheme.seed,
            self.scheme.codebook,
            self.storage or "tiles",
            k.centre,
            k.scheme.sinks,
            value_threshold=self.scheme.value_threshold,
        )

    def _packed_side(self) -> Packed | None:
        """`packed` where one side is exact."""
        if self.keys is None or self.values is None:
            return None
        of_keys = isinstance(self.keys, PackedSide)
        one, other = (self.keys, self.values) if of_keys else (self.values, self.keys)
        if not isinstance(one, PackedSide) or not isinstance(other, ExactSide):
            return None
        words, scales = one.words, one.scales
        if words is None or scales is None or one.chunk is not None or not one.tiles:
            return None
        # A head_dim without a rotation has no kernel; plain MLX dequantises a few heads at a time.
        if backends.default_name() == backends.PORTABLE or not _has_kernels(other):
            return None
        held, nothing = (words, scales), no_tiles(*one.shape[:2])
        return Packed(
            *(held if of_keys else nothing),
            *(nothing if of_keys else held),
            self.keys.exact,
            self.values.exact,
            (Row(one.tiles, one.count, one.first),),
            one.scheme.bits if of_keys else EXACT,
            EXACT if of_keys else one.scheme.bits,
            self.scheme.key_seed,
            self.scheme.value_seed,
            self.scheme.codebook,
            "tiles",
            one.centre,
            one.scheme.sinks,
            other.first,
            self.scheme.value_threshold,
        )

    @property
    def plain_nbytes(self) -> int:
        """What the same tokens take in the model's dtype."""
        sizes = [
            side.exact.shape[0] * side.exact.shape[1] * side.exact.shape[3] * side.exact.itemsize
            for side in self.sides()
        ]
        return self.tokens * sum(sizes)

    @property
    def nbytes(self) -> int:
        """Everything that is allocated: codes, scales, windows, slack."""
        self.settle()
        return sum(array.nbytes for side in self.sides() for array in side.arrays)


def check_update(keys: mx.array, values: mx.array, any_dtype: bool = False) -> None:
    """Raises ValueError unless keys and values can be tokens of one cache."""
    if keys.ndim != 4 or values.ndim != 4 or keys.shape[:3] != values.shape[:3]:
        raise ValueError(
            f"Keys {keys.shape} and values {values.shape} do not belong together: both must be "
            "(batch, kv_heads, tokens, head_dim) and differ in head_dim alone."
        )
    for array in (keys, values):
        if not (any_dtype or mx.issubdtype(array.dtype, mx.floating)):
            raise ValueError(
                f"A cache takes float32, float16 or bfloat16 keys and values, not {array.dtype}."
            )


def _settle(side: Side) -> None:
    side.settle()


def _seal(side: Side) -> None:
    side.seal()


def _tiles(side: Side) -> int:
    return side.tiles if isinstance(side, PackedSide) else 0


def _can_be_rotated(x: mx.array) -> bool:
    supported = x.shape[-1] in supported_dims()
    if not supported:
        _warn_exact(x.shape[-1])
    return supported and mx.issubdtype(x.dtype, mx.floating)


def _has_kernels(side: ExactSide) -> bool:
    return side.shape[-1] in supported_dims() and side.exact.dtype in _DTYPES


@cache
def _warn_exact(dim: int) -> None:
    dims = ", ".join(str(d) for d in supported_dims())
    _log.warning("head_dim %d stays uncompressed: a rotation needs one of %s.", dim, dims)
