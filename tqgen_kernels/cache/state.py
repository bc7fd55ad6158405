"""The state of a store: what mlx-lm's prompt-cache files hold, the same on every device.

    exact_keys, exact_values    (B, H, exact, D)     sinks and newest tokens, or all of them
    key_words, value_words      (B, H, packed, W)    uint32, token-major (quant/packing.py), or None
    key_scales, value_scales    (B, H, packed)       float16, or None
    first                       packed tokens at the start that a sliding window has dropped
    format, any_dim, key_bits (-1: exact), value_bits, seed, residual, sinks, norm_correction,
    codebook, centre, guard
    key_centre                  (B, H, 1, D)         what the packed keys lack, or None
    then what the cache's class adds, and a checksum of it all

Codes are token-major whatever layout the running cache has. Everything that is read is checked: a
file may be damaged, foreign or hostile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import mlx.core as mx

from tqgen_kernels.backends import portable
from tqgen_kernels.cache.checksum import checksum
from tqgen_kernels.cache.exact_side import ExactSide
from tqgen_kernels.cache.side import PackedSide
from tqgen_kernels.cache.store import Side, Store
from tqgen_kernels.quant.packing import TILE, words_per_vector
from tqgen_kernels.quant.scheme import Scheme

if TYPE_CHECKING:
    from tqgen_kernels.cache.stack import Stack

FORMAT = "turboquant-4"
FORMAT_AT, FIELDS = 7, 19
_FLOATS = (mx.float32, mx.float16, mx.bfloat16)


class StateError(ValueError):
    """A state that no cache can have written."""


class State(dict[int, Any]):
    """Holds the running arrays of stores, and reads as the sequence of their canonical state.

    mlx-lm evaluates the state after every prompt chunk, and saves it once. MLX evaluates what a
    dict holds; whoever reads this one, as saving does, gets the canonical form, made then by
    `canonical`.
    """

    def __init__(
        self, stores: Iterable[Store | Stack], canonical: Callable[[], Sequence[Any]]
    ) -> None:
        arrays: list[mx.array] = []
        for store in stores:
            store.settle()
            arrays += [array for side in store.sides() for array in side.arrays]
        super().__init__(enumerate(arrays))
        self._canonical = canonical

    def __iter__(self) -> Iterator[Any]:
        return iter(self._canonical())

    def __getitem__(self, index: Any) -> Any:
        return self._canonical()[index]

    def __len__(self) -> int:
        return len(self._canonical())

    def __bool__(self) -> bool:
        return True

    def items(self) -> Any:
        return enumerate(self._canonical())

    def values(self) -> Any:
        return self._canonical()

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self._canonical(),)


def fields_of(state: Any, least: int = 0) -> list[Any]:
    """What a state holds, in order. Raises StateError if it is none."""
    if isinstance(state, dict):
        state = list(state.values())
    if not isinstance(state, list | tuple) or len(state) < least:
        raise StateError("This is not the state of a compressed cache.")
    return list(state)


def write(store: Store, *own: Any) -> tuple[Any, ...]:
    """The canonical state of a store and what its cache adds, sealed."""
    keys, values = [_write_side(side) for side in store.sides()] or [(None,) * 3] * 2
    arrays = [array for pair in zip(keys, values, strict=True) for array in pair]
    firsts = [side.first % TILE for side in store.sides() if isinstance(side, PackedSide)]
    s = store.scheme
    key_bits, value_bits = (-1 if b is None else b for b in (s.key_bits, s.value_bits))
    kept = (s.seed, s.residual, s.sinks, s.norm_correction, s.codebook, s.centre, s.guard)
    scheme = (key_bits, value_bits, *kept)
    first = max(firsts, default=0)
    return sealed(*arrays, first, FORMAT, store.any_dim, *scheme, _centre(store), *own)


def sealed(*fields: Any) -> tuple[Any, ...]:
    """The fields, and their checksum at the end."""
    return (*fields, checksum(fields))


def opened(state: list[Any]) -> list[Any]:
    """The fields of a sealed state. Raises StateError if one has changed."""
    *fields, found = state
    check(found == checksum(fields), "content", "it does not match its checksum")
    return fields


def _centre(store: Store) -> mx.array | None:
    side = store.keys
    return side.centre if isinstance(side, PackedSide) and side.tiles else None


def _write_side(side: Side) -> tuple[mx.array | None, ...]:
    """Exact tokens, words, scales."""
    if isinstance(side, ExactSide):
        return side.contents(), None, None
    exact = side.exact[:, :, : side.count]
    if side.words is None or side.scales is None or not side.tiles:
        return exact, None, None
    kept = slice(None), slice(None), slice(side.first // TILE, side.tiles)
    words, scales = side.words[kept], side.scales[kept]
    bits, layout = side.scheme.bits, side.scheme.layout
    if layout == "key":
        words = words.swapaxes(-1, -2).flatten(2, 3)
    else:
        words = portable.pack(portable.unpack_tiles(words, side.head_dim, bits, layout), bits)
    return exact, words, scales.flatten(2, 3)


def read(state: Any) -> tuple[Store, list[Any]]:
    """A store, and what follows its state. Raises StateError that says what is wrong."""
    state = fields_of(state, FORMAT_AT + 1)
    format_ = state[FORMAT_AT]
    if format_ != FORMAT:
        raise StateError(
            f"This cache was stored as {format_!r}, and this version reads {FORMAT!r}: "
            "make the prompt cache again."
        )
    state = opened(fields_of(state, FIELDS + 1))
    *arrays, first, _, any_dim = state[:9]
    *scheme, centre = state[9:FIELDS]
    check(isinstance(any_dim, bool), "any_dim", repr(any_dim))
    store = Store(_read_scheme(*scheme), any_dim)
    rest = state[FIELDS:]
    if all(array is None for array in (*arrays, centre)):
        return store, rest
    keys, values = arrays[0::2], arrays[1::2]
    for name, (exact, *_) in (("keys", keys), ("values", values)):
        check(isinstance(exact, mx.array) and exact.ndim == 4, f"exact {name}", "not 4-dimensional")
        check(exact.dtype in _FLOATS, f"exact {name}", f"of dtype {exact.dtype}")
    check(keys[0].shape[:2] == values[0].shape[:2], "keys and values", "of different batches")
    store.settle_storage(keys[0], values[0])
    store.keys = _read_side(store, "key", first, *keys)
    store.values = _read_side(store, "value", first, *values)
    _read_centre(store.keys, centre)
    held = store.keys.tokens, store.values.tokens
    check(held[0] == held[1], "keys and values", "of {} and {} tokens".format(*held))
    mx.eval([array for side in store.sides() for array in side.arrays])
    return store, rest


def check_int(name: str, value: Any, least: int, most: int) -> int:
    """`value`, or StateError if it is no integer from least to most."""
    integer = isinstance(value, int) and not isinstance(value, bool)
    check(integer and least <= value <= most, name, f"{value!r}, not {least} to {most}")
    return int(value)


def check(passed: bool, what: str, problem: str) -> None:
    """StateError about `what` unless it passed."""
    if not passed:
        raise StateError(
            f"The stored cache is damaged: its {what} ({problem}). Make the prompt cache again."
        )


def _read_scheme(
    key_bits: Any,
    value_bits: Any,
    seed: Any,
    residual: Any,
    sinks: Any,
    norm_correction: Any,
    codebook: Any,
    centre: Any,
    guard: Any,
) -> Scheme:
    check(isinstance(norm_correction, bool), "norm correction", repr(norm_correction))
    check(isinstance(centre, bool), "centring", repr(centre))
    key_bits = check_int("key bits", key_bits, -1, 8)
    value_bits = check_int("value bits", value_bits, -1, 8)
    try:
        return Scheme(
            key_bits=None if key_bits < 0 else key_bits,
            value_bits=None if value_bits < 0 else value_bits,
            seed=check_int("seed", seed, 0, 2**31 - 2),
            residual=check_int("residual", residual, 0, 4096),
            sinks=check_int("sinks", sinks, 0, 1024),
            norm_correction=norm_correction,
            codebook=codebook,
            centre=centre,
            guard=guard,
        )
    except ValueError as error:
        raise StateError(f"The stored cache is damaged: {error}") from None


def _read_side(
    store: Store, which: Literal["key", "value"], first: Any, exact: Any, words: Any, scales: Any
) -> Side:
    try:
        side = store.side(which, exact)
    except ValueError as error:
        raise StateError(f"The stored cache is damaged: {error}") from None
    name, count = f"{which}s", exact.shape[2]
    if isinstance(side, ExactSide):
        check(words is None and scales is None, name, "both exact and packed")
        side.exact, side.count = exact, count
        return side
    check(count <= side.scheme.window, f"exact {name}", f"{count} tokens")
    if words is not None or scales is not None:
        tokens = _check_packed(side, name, exact, words, scales)
        check(count >= side.scheme.sinks, f"exact {name}", f"{count}: fewer than the sinks")
        side.first = check_int("first token", first, 0, TILE - 1)
        side.tiles = tokens // TILE
        side.words = _to_tiles(words, side)
        side.scales = scales.reshape(*scales.shape[:2], -1, TILE)
    side.set_window([exact])
    return side


def _read_centre(side: Side, centre: Any) -> None:
    """Give the keys their centre: an array where tiles were packed without one, else None."""
    wanted = isinstance(side, PackedSide) and side.scheme.centre and side.tiles > 0
    found = isinstance(centre, mx.array)
    check(found if wanted else centre is None, "centre", "there without tiles, or the reverse")
    if isinstance(side, PackedSide) and found:
        batch, heads, _, dim = side.shape
        right = centre.shape == (batch, heads, 1, dim) and centre.dtype == side.exact.dtype
        check(right, "centre", _kind(centre))
        check(bool(mx.all(mx.isfinite(centre)).item()), "centre", "infinite or NaN")
        side.centre = centre


def _check_packed(side: PackedSide, name: str, exact: mx.array, words: Any, scales: Any) -> int:
    """How many tokens are packed, once everything about them is found right."""
    arrays = isinstance(words, mx.array) and isinstance(scales, mx.array)
    check(arrays, f"packed {name}", "words without scales, or the reverse")
    width = words_per_vector(side.head_dim, side.scheme.bits)
    tokens = scales.shape[-1]
    shape = (*exact.shape[:2], tokens)
    check(scales.dtype == mx.float16 and scales.shape == shape, f"{name}' scales", _kind(scales))
    check(tokens > 0 and tokens % TILE == 0, f"packed {name}", f"{tokens} tokens")
    right = words.dtype == mx.uint32 and words.shape == (*shape, width)
    check(right, f"{name}' words", _kind(words))
    sound = mx.all((scales >= 0) & mx.isfinite(scales)).item()
    check(bool(sound), f"{name}' scales", "negative, infinite or NaN")
    return int(tokens)


def _kind(array: mx.array) -> str:
    return f"{array.dtype} of shape {array.shape}"


def _to_tiles(words: mx.array, side: PackedSide) -> mx.array:
    bits, layout = side.scheme.bits, side.scheme.layout
    codes = words if layout == "key" else portable.unpack(words, side.head_dim, bits)
    return portable.to_tiles(words, codes, bits, layout)
