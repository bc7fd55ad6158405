"""The operations of a compressed cache by the kernels that the registry chose.

Each function returns None where the portable path was chosen. In the decode loop a choice costs
one look-up: problems, geometry and parameter arrays are remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tqgen_kernels import backends, registry
from tqgen_kernels.backends.compiled import Compiled
from tqgen_kernels.backends.portable import signs
from tqgen_kernels.codegen.families.attend import params as attend_params
from tqgen_kernels.codegen.families.attend import splits_for
from tqgen_kernels.codegen.problem import (
    MAX_GQA,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    batch_bucket,
    context_bucket,
)
from tqgen_kernels.quant.packing import TILE

if TYPE_CHECKING:
    from tqgen_kernels.operations import Packed


def _name(dtype: mx.Dtype) -> Any:
    return str(dtype).rpartition(".")[2]


@lru_cache(maxsize=512)
def _compiled(cls: type, backend: str, *fields: Any) -> Compiled | None:
    """The compiled kernel of the problem with these fields; None for the portable path."""
    if backend == backends.PORTABLE:
        return None
    return registry.kernel(cls(*fields)).compiled


@lru_cache(maxsize=256)
def _params(*values: int) -> mx.array:
    """Eight int32s. The same for all layers of a step, so made once."""
    array = mx.array([*values, *[0] * (8 - len(values))], mx.int32)
    mx.eval(array)
    return array


def forget() -> None:
    """Choose anew: after tuning, or for another backend."""
    registry.forget()
    _compiled.cache_clear()


def encode(
    x: mx.array, bits: int, seed: int, layout: str, norm_correction: bool
) -> tuple[mx.array, mx.array] | None:
    batch, heads, tokens, dim = x.shape
    kernel = _compiled(
        EncodeProblem,
        backends.default_name(),
        dim,
        bits,
        layout,
        _name(x.dtype),
        norm_correction,
        heads,
        batch_bucket(batch),
        context_bucket(tokens),
    )
    if kernel is None:
        return None
    inputs = {"x": x, "signs": signs(dim, seed), "params": _params(tokens // TILE)}
    words, scales = kernel(inputs, {})
    return words, scales


def dequantize(
    words: mx.array,
    scales: mx.array,
    tiles: int,
    head_dim: int,
    bits: int,
    seed: int,
    layout: str,
    dtype: mx.Dtype,
    rotated: bool,
) -> mx.array | None:
    batch, heads, room = words.shape[:3]
    kernel = _compiled(
        DequantizeProblem,
        backends.default_name(),
        head_dim,
        bits,
        layout,
        _name(dtype),
        rotated,
        heads,
        batch_bucket(batch),
        context_bucket(tiles * TILE),
    )
    if kernel is None:
        return None
    inputs = {
        "words": words,
        "scales": scales,
        "signs": signs(head_dim, seed),
        "params": _params(tiles, room),
    }
    return kernel(inputs, {"tiles": tiles})[0]


def attend(q: mx.array, store: Packed, scale: float) -> mx.array | None:
    batch, heads, q_len, key_dim = q.shape
    kv_heads, window, value_dim = store.exact_values.shape[1:]
    gqa = heads // kv_heads
    if gqa > MAX_GQA:
        return None
    backend = backends.default_name()
    dtype, sizes = _name(q.dtype), (batch_bucket(batch), context_bucket(store.tiles * TILE))
    shape = (key_dim, value_dim, store.key_bits, store.value_bits, gqa, q_len)
    kernel = _compiled(AttendProblem, backend, *shape, dtype, kv_heads, *sizes)
    merge = _compiled(CombineProblem, backend, value_dim, dtype, heads, *sizes)
    if kernel is None or merge is None:
        return None
    problem: Any = kernel.variant.problem
    splits, each = splits_for(problem, kernel.variant.config, batch * kv_heads, store.tiles)
    rows = batch * heads * q_len
    numbers = (store.tiles, store.key_words.shape[2], each, store.exact, window)
    params = _params(*attend_params(*numbers, scale, splits, rows))
    inputs = {
        "queries": q,
        "key_words": store.key_words,
        "key_scales": store.key_scales,
        "value_words": store.value_words,
        "value_scales": store.value_scales,
        "exact_keys": store.exact_keys,
        "exact_values": store.exact_values,
        "signs": signs(key_dim, store.key_seed),
        "params": params,
    }
    partials, statistics = kernel(inputs, {"splits": splits})
    merged = merge(
        {
            "partials": partials,
            "statistics": statistics,
            "signs": signs(value_dim, store.value_seed),
            "params": params,
        },
        {},
    )
    return merged[0].reshape(batch, heads, q_len, value_dim)
