"""The packed keys and values of one layer, as the operations and the kernels take them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import mlx.core as mx

from tqgen_kernels.codegen.families.attend import Row
from tqgen_kernels.codegen.problem import EXACT
from tqgen_kernels.quant.codebook import CodebookKind

Layout = Literal["key", "value", "key_fragment", "value_fragment"]
Storage = Literal["tiles", "fragment"]


class Packed(NamedTuple):
    """Keys and values of one layer, packed tokens and exact window.

    key_words (B, H, capacity, W, 32) and value_words (B, H, capacity, value_bits, Dv), uint32;
    key_scales and value_scales (B, H, capacity, 32), float16; exact_keys (B, H, window, D) and
    exact_values (B, H, window, Dv) in the model's dtype, not rotated. `rows` says how many tiles
    and tokens of the window hold something: an entry for each row of the batch, or one for all.
    The newest tokens are at the end of the window.
    centre (B, H, 1, D): what the packed keys lack, and every score with them, which softmax does
    not see; None for nothing.
    leading: tokens at the start of the window that come before the packed ones.
    key_bits or value_bits EXACT: that side is not packed. Its words and scales are empty, and
    exact_keys or exact_values holds all of its tokens: the leading ones, `gone` that were dropped,
    those that the other side has packed and sees, and the rest of the window.
    value_threshold: a softmax weight below which values need not be read.
    storage "fragment": the words' last two axes are (D / 32 * bits, 32) on both sides.
    """

    key_words: mx.array
    key_scales: mx.array
    value_words: mx.array
    value_scales: mx.array
    exact_keys: mx.array
    exact_values: mx.array
    rows: tuple[Row, ...]
    key_bits: int
    value_bits: int
    key_seed: int
    value_seed: int
    codebook: CodebookKind = "lloyd-max"
    storage: Storage = "tiles"
    centre: mx.array | None = None
    leading: int = 0
    gone: int = 0
    value_threshold: float = 0.0

    @property
    def has_exact_side(self) -> bool:
        return EXACT in (self.key_bits, self.value_bits)

    def window_of(self, exact: mx.array, bits: int) -> tuple[mx.array, mx.array]:
        """The tokens of a side of the first row that the other side has packed and sees, where
        the side is not packed itself, and those of the window: both (B, H, n, D)."""
        row = self.rows[0]
        if bits != EXACT:
            return exact[:, :, :0], exact[:, :, : row.exact]
        start = self.leading + self.gone
        stop = start + row.packed
        rest = exact[:, :, stop : stop + row.exact - self.leading]
        return exact[:, :, start:stop], mx.concatenate([exact[:, :, : self.leading], rest], axis=2)

    @property
    def centre_or_zero(self) -> mx.array:
        """(B, H, 1, D)."""
        if self.centre is None:
            batch, heads, _, dim = self.exact_keys.shape
            return _zeros(batch, heads, dim, self.exact_keys.dtype)
        return self.centre

    def row(self, i: int) -> Packed:
        """Row i of the batch alone."""
        return self._part(slice(i, i + 1))._replace(rows=self.rows[i : i + 1])

    def heads(self, which: slice) -> Packed:
        """These key/value heads alone."""
        return self._part((slice(None), which))

    def _part(self, which: Any) -> Packed:
        names = ("key_words", "key_scales", "value_words", "value_scales")
        arrays = {n: getattr(self, n)[which] for n in (*names, "exact_keys", "exact_values")}
        return self._replace(centre=None if self.centre is None else self.centre[which], **arrays)


@lru_cache(maxsize=16)
def no_tiles(batch: int, heads: int) -> tuple[mx.array, mx.array]:
    """Words and scales of a side that is not packed."""
    words, scales = mx.zeros((batch, heads, 0), mx.uint32), mx.zeros((batch, heads, 0), mx.float16)
    mx.eval(words, scales)
    return words, scales


@lru_cache(maxsize=16)
def _zeros(batch: int, heads: int, dim: int, dtype: mx.Dtype) -> mx.array:
    zeros = mx.zeros((batch, heads, 1, dim), dtype)
    mx.eval(zeros)
    return zeros
