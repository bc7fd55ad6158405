"""What attend has to find: attention over what an example holds, in float64 and bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.families import scoring
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import EXACT, AttendProblem
from tqgen_kernels.quant import reference
from tqgen_kernels.quant.codebook import side_kind

if TYPE_CHECKING:
    from tqgen_kernels.codegen.families.attend import Row

Float64: TypeAlias = NDArray[np.float64]
Side = Literal["key", "value"]

_CHUNK = 256  # tiles that are decoded at a time
_LEADING, _GONE = 13, 14  # where `params` says them


def attention_of_row(
    p: AttendProblem, example: Example, i: int, row: Row
) -> tuple[Float64, Float64]:
    """Row i's attention (heads, q_len, value_dim), and how far off each query's may be, (heads,
    q_len), where all tokens below the value threshold are left out."""
    queries = np.asarray(example.inputs["queries"][i], np.float64)
    grouped = queries.reshape(p.kv_heads, -1, p.key_dim) * p.key_dim**-0.5
    parts = [grouped @ keys.swapaxes(-1, -2) for keys in _tokens(p, example, i, row, "key")]
    scores = np.concatenate(parts, axis=-1).reshape(*queries.shape[:2], -1)
    scores += _mask(p, example, i, scores.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    weights = weights.reshape(p.kv_heads, -1, weights.shape[-1])
    out: Float64 = np.zeros((*weights.shape[:2], p.value_dim))
    lost: Float64 = np.zeros((*weights.shape[:2], 1))
    start = 0
    for values in _tokens(p, example, i, row, "value"):
        now = weights[..., start : start + values.shape[1]]
        out += now @ values
        below = now * (now < p.value_threshold)
        lost += below @ np.linalg.norm(values, axis=-1, keepdims=True)
        start += values.shape[1]
    return out.reshape(*queries.shape[:2], -1), lost.reshape(queries.shape[:2])


def _mask(p: AttendProblem, example: Example, i: int, tokens: int) -> Float64:
    """What is added to the scores, (heads or 1, q_len or 1, tokens)."""
    if p.mask == "none":
        later = np.arange(tokens) > tokens - p.q_len + np.arange(p.q_len)[:, None]
        return np.where(later, -np.inf, 0.0)[None]
    given = example.inputs["mask"][i, :, :, :tokens]
    return np.where(given, 0.0, -np.inf) if p.mask == "boolean" else given.astype(np.float64)


def _tokens(p: AttendProblem, example: Example, i: int, row: Row, side: Side) -> Iterator[Float64]:
    """Row i's keys or values (kv_heads, n, dim), some at a time: those in tiles first."""
    bits = p.key_bits if side == "key" else p.value_bits
    held = np.asarray(example.inputs[f"exact_{side}s"][i])
    if bits == EXACT:
        leading, gone = (int(n) for n in example.inputs["params"][[_LEADING, _GONE]])
        start, stop = leading + gone, leading + gone + row.packed
        for first in range(start, stop, 32 * _CHUNK):
            yield held[:, first : min(first + 32 * _CHUNK, stop)].astype(np.float64)
        window = np.concatenate([held[:, :leading], held[:, stop : stop + row.exact - leading]], 1)
        yield window.astype(np.float64)
        return
    dim = p.key_dim if side == "key" else p.value_dim
    seed = scoring.KEY_SEED if side == "key" else scoring.VALUE_SEED
    layout = f"{side}_fragment" if p.storage == "fragment" else side
    for first in range(row.unseen // 32, row.tiles, _CHUNK):
        tiles = slice(first, min(first + _CHUNK, row.tiles))
        codes = unpack_tiles(
            example.inputs[f"{side}_words"][i : i + 1, :, tiles], dim, bits, layout
        )
        scales = example.inputs[f"{side}_scales"][i : i + 1, :, tiles].reshape(codes.shape[:-1])
        encoded = reference.Encoded(codes, scales)
        packed = reference.decode(encoded, bits, seed, codebook=side_kind(p.codebook, side))[0]
        yield packed[:, max(row.unseen - first * 32, 0) :]
    window = held[:, : row.exact].astype(np.float64)
    if p.fresh:
        window = np.concatenate([window, example.inputs[f"fresh_{side}s"][i]], axis=1)
    if side == "key":
        window = window - np.asarray(example.inputs["key_centre"][i], np.float64)
    yield window
