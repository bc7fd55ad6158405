"""Arrays that a model takes for keys and values, and that know the store they came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import mlx.core as mx

if TYPE_CHECKING:
    from tqgen_kernels.cache.attention import Attendable


class Origin(NamedTuple):
    """What two handles, keys and values, stand for: a cache as it was at a version of it.

    blank: their content is a NaN, for code that can only attend (cache/uses.py).
    """

    cache: Attendable
    version: int
    blank: bool


class Handle(mx.array):
    """An mx.array whose lazy content is the dequantised tensor: whatever a model does with it is
    right. Attention that recognises it reads the packed store, and the content is never computed.

    It refers to the cache, not to the cache's arrays: those must be free to be updated in place.
    """

    origin: Origin
    side: Literal["key", "value"] = "key"

    def content(self) -> mx.array:
        """The dequantised tensor."""
        cache, version, blank = self.origin
        if not blank:
            return self
        if version != cache.version:
            raise RuntimeError("Keys and values of an earlier step were used after the next one.")
        return cache.contents()[self.side == "value"]


def handles(
    cache: Attendable, keys: mx.array, values: mx.array, blank: bool = False
) -> tuple[Handle, Handle]:
    """Handles on the present version of a cache, with these contents."""
    k, v = Handle(keys), Handle(values)
    k.origin = v.origin = Origin(cache, cache.version, blank)
    v.side = "value"
    return k, v


def blank_handles(
    cache: Attendable, key_shape: tuple[int, ...], value_shape: tuple[int, ...], dtype: mx.Dtype
) -> tuple[Handle, Handle]:
    """Handles of these shapes whose content nobody can see."""
    return handles(cache, _blank(key_shape, dtype), _blank(value_shape, dtype), blank=True)


@lru_cache(maxsize=16)
def _blank(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    """The same for all layers of a step."""
    return mx.broadcast_to(_NAN[dtype], shape)


_NAN = {dtype: mx.array(float("nan"), dtype) for dtype in (mx.float32, mx.float16, mx.bfloat16)}
mx.eval(_NAN)


class CausalMask(mx.array):
    """A boolean mask that a batch cache made: causal and left padding, nothing else.

    `rows`: what it was made for. An operation on it gives a plain array.
    """

    rows: tuple[int, ...]


class StoredArrays(list[mx.array]):
    """The stored arrays of keys or of values; shape, dtype and slices are those of the tokens that
    they stand for, `contents()`.

    mlx-lm's pipeline-parallel models pass the `keys` of a cache to mx.depends and set the result;
    code written for KVCache slices them.
    """

    def __init__(self, arrays: Iterable[mx.array], contents: Callable[[], mx.array]) -> None:
        super().__init__(arrays)
        self._contents = contents

    @property
    def shape(self) -> tuple[int, ...]:
        return self._contents().shape

    @property
    def dtype(self) -> mx.Dtype:
        return self._contents().dtype

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple) or index is Ellipsis:
            return self._contents()[index]
        return super().__getitem__(index)
