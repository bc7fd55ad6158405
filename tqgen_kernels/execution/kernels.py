"""The operations of a compressed cache by the kernels that the registry chose.

Each function returns None where the portable path was chosen. In the decode loop a choice costs
one look-up: problems, geometry and parameter arrays are remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tqgen_kernels import backends
from tqgen_kernels.backends.compiled import Compiled
from tqgen_kernels.backends.portable import signs
from tqgen_kernels.codegen.families.attend import Row, mask_strides, splits_for
from tqgen_kernels.codegen.families.attend import params as attend_params
from tqgen_kernels.codegen.problem import (
    DTYPES,
    EXACT,
    MAX_GQA,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    batch_bucket,
    context_bucket,
)
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.packing import TILE

if TYPE_CHECKING:
    from tqgen_kernels.backends import Bound
    from tqgen_kernels.backends.packed import Packed

DTYPE_NAMES: dict[mx.Dtype, Any] = {getattr(mx, name): name for name in DTYPES}


@lru_cache(maxsize=512)
def compiled_for(cls: type, backend: str, **fields: Any) -> Compiled | None:
    """The compiled kernel of the problem with these fields; None for the portable path."""
    if backend == backends.PORTABLE:
        return None
    return registry.kernel(cls(**fields)).compiled


@lru_cache(maxsize=256)
def numbers_array(*values: int) -> mx.array:
    """At least eight int32s. The same for all layers of a step, so made once."""
    array = mx.array([*values, *[0] * (8 - len(values))], mx.int32)
    mx.eval(array)
    return array


@lru_cache(maxsize=1)
def _backend() -> str:
    """The default one, as of the first decode step: reading the environment takes long."""
    return backends.default_name()


def forget() -> None:
    """Choose anew: after tuning, or for another backend."""
    registry.forget()
    _backend.cache_clear()
    compiled_for.cache_clear()
    _attend_plan.cache_clear()
    _attend_params.cache_clear()
    _chosen_road.cache_clear()


def encode(
    x: mx.array, bits: int, seed: int, layout: str, norm_correction: bool, codebook: str
) -> tuple[mx.array, mx.array] | None:
    batch, heads, tokens, dim = x.shape
    kernel = compiled_for(
        EncodeProblem,
        backends.default_name(),
        head_dim=dim,
        bits=bits,
        layout=layout,
        dtype=DTYPE_NAMES[x.dtype],
        norm_correction=norm_correction,
        codebook=codebook,
        kv_heads=heads,
        batch=batch_bucket(batch),
        context=context_bucket(tokens),
    )
    if kernel is None:
        return None
    inputs = {"x": x, "signs": signs(dim, seed), "params": numbers_array(tokens // TILE)}
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
    codebook: str,
) -> mx.array | None:
    batch, heads, room = words.shape[:3]
    kernel = compiled_for(
        DequantizeProblem,
        backends.default_name(),
        head_dim=head_dim,
        bits=bits,
        layout=layout,
        dtype=DTYPE_NAMES[dtype],
        rotated=rotated,
        codebook=codebook,
        kv_heads=heads,
        batch=batch_bucket(batch),
        context=context_bucket(tiles * TILE),
    )
    if kernel is None:
        return None
    inputs = {
        "words": words,
        "scales": scales,
        "signs": signs(head_dim, seed),
        "params": numbers_array(tiles, room),
    }
    return kernel(inputs, {"tiles": tiles})[0]


@dataclass(frozen=True, eq=False)
class _AttendPlan:
    """Both launches of decode steps over so many tiles: the same for all layers of one shape, and
    for all steps until the next tile.

    step: queries, the arrays of the store, params, then fresh keys and values or a mask, and
    sinks, where there are any, to [(B, Hq, L, Dv)], after which come the windows with fresh tokens
    in them.
    """

    step: Callable[..., list[mx.array]]
    splits: int
    each: int  # tiles of a split


@lru_cache(maxsize=128)
def _attend_plan(
    backend: str,
    q_shape: tuple[int, ...],
    dtype: mx.Dtype,
    values: tuple[int, ...],
    tiles: int,
    bits: tuple[int, int],
    seeds: tuple[int, int],
    codebook: str,
    storage: str,
    extra: str,
    sinks: bool,
    value_threshold: float,
) -> _AttendPlan | None:
    """extra: "none", the kind of a mask, or "fresh"."""
    batch, heads, q_len, key_dim = q_shape
    kv_heads, value_dim = values[1], values[3]
    gqa = heads // kv_heads
    if gqa > MAX_GQA:
        return None
    sizes = {
        "dtype": DTYPE_NAMES[dtype],
        "batch": batch_bucket(batch),
        "context": context_bucket(tiles * TILE),
    }
    kernel = compiled_for(
        AttendProblem,
        backend,
        key_dim=key_dim,
        value_dim=value_dim,
        key_bits=bits[0],
        value_bits=bits[1],
        gqa=gqa,
        q_len=q_len,
        codebook=codebook,
        storage=storage,
        mask="none" if extra == "fresh" else extra,
        fresh=extra == "fresh",
        value_threshold=value_threshold,
        kv_heads=kv_heads,
        **sizes,
    )
    merge = compiled_for(
        CombineProblem,
        backend,
        value_dim=value_dim,
        heads=heads,
        sinks=sinks,
        exact=bits[1] == EXACT,
        **sizes,
    )
    if kernel is None or merge is None:
        return None
    problem: Any = kernel.variant.problem
    splits, each = splits_for(problem, kernel.variant.config, batch * kv_heads, tiles)
    shapes = {
        "queries": q_shape,
        "exact_keys": (*values[:3], key_dim),
        "exact_values": values,
    }
    first = kernel.geometry(shapes, {"splits": splits})
    second = merge.geometry({"partials": first.output_shapes[0]}, {})
    second = replace(second, output_shapes=((*q_shape[:3], value_dim),))
    step = _step(
        kernel.launcher(first),
        merge.launcher(second),
        signs(key_dim, seeds[0]),
        signs(value_dim, seeds[1]),
        extras={"none": 0, "fresh": 2}.get(extra, 1),
        held=5 if EXACT in bits else 7,
    )
    # One call of MLX a layer and token, which copies no text.
    step = mx.compile(step) if backends.load(backend).LAZY else step
    return _AttendPlan(step, splits, each)


def _step(
    attend: Bound,
    combine: Bound,
    key_signs: mx.array,
    value_signs: mx.array,
    extras: int,
    held: int,
) -> Callable[..., list[mx.array]]:
    """held: arrays of the store, the last of which is the centre."""
    first = held + 1 + extras

    def step(q: mx.array, *arrays: mx.array) -> list[mx.array]:
        store, params, extra, sinks = (
            arrays[:held],
            arrays[held],
            arrays[held + 1 : first],
            arrays[first:],
        )
        partials, statistics, *windows = attend([q, *store, key_signs, params, *extra])
        sunk = (*sinks, q, store[-1]) if sinks else ()
        return [*combine([partials, statistics, value_signs, params, *sunk]), *windows]

    return step


@lru_cache(maxsize=256)
def _attend_params(
    plan: _AttendPlan,
    q_shape: tuple[int, ...],
    kv_heads: int,
    room: int,
    window: int,
    rows: tuple[Row, ...],
    scale: float,
    mask_shape: tuple[int, ...],
    exact_side: tuple[int, int, int],
) -> mx.array:
    """What the kernels of a step read beside arrays: the same for all its layers."""
    batch, heads, q_len, key_dim = q_shape
    numbers = attend_params(
        rows if len(rows) == batch else rows * batch,
        room=room,
        each=plan.each,
        heads=heads,
        gqa=heads // kv_heads,
        q_len=q_len,
        key_dim=key_dim,
        window=window,
        scale=scale,
        splits=plan.splits,
        mask_strides=mask_strides(mask_shape) if mask_shape else (0, 0, 0),
        exact_side=exact_side,
    )
    return mx.array(numbers, mx.int32)


def attend_road(q: mx.array, store: Packed) -> str | None:
    """The road without a kernel of ours that was chosen for a step; None where there is one."""
    backend = backends.default_name()
    kv_heads = store.exact_values.shape[1]
    if backend == backends.PORTABLE or q.shape[1] // kv_heads > MAX_GQA:
        return None
    return _chosen_road(
        backend,
        key_dim=q.shape[3],
        value_dim=store.exact_values.shape[3],
        key_bits=store.key_bits,
        value_bits=store.value_bits,
        gqa=q.shape[1] // kv_heads,
        q_len=q.shape[2],
        dtype=DTYPE_NAMES[q.dtype],
        codebook=store.codebook,
        storage=store.storage,
        value_threshold=store.value_threshold,
        kv_heads=kv_heads,
        batch=batch_bucket(q.shape[0]),
        context=context_bucket(max(row.live_tiles for row in store.rows) * TILE),
    )


@lru_cache(maxsize=128)
def _chosen_road(backend: str, **fields: Any) -> str | None:
    del backend  # of the choice, which the registry makes for the default one
    return registry.kernel(AttendProblem(**fields)).choice.road


def attend(
    q: mx.array,
    store: Packed,
    scale: float,
    sinks: mx.array | None = None,
    mask: mx.array | None = None,
) -> mx.array | None:
    """mask: 4-dimensional, its tokens in the order of the store."""
    if mask is None:
        found = _attend(q, store, scale, sinks, "none")
    else:
        kind = "boolean" if mask.dtype == mx.bool_ else "additive"
        found = _attend(q, store, scale, sinks, kind, (mask,), mask.shape)
    return None if found is None else found[0]


def attend_fresh(
    q: mx.array,
    store: Packed,
    fresh: tuple[mx.array, mx.array],
    scale: float,
    sinks: mx.array | None = None,
) -> list[mx.array] | None:
    """fresh: keys (B, H, L, D) and values (B, H, L, Dv) of the queries' own tokens, which come
    after those of the store. The output, and the exact keys and values with them in it."""
    return _attend(q, store, scale, sinks, "fresh", fresh)


def _attend(
    q: mx.array,
    store: Packed,
    scale: float,
    sinks: mx.array | None,
    kind: str,
    extra: tuple[mx.array, ...] = (),
    mask_shape: tuple[int, ...] = (),
) -> list[mx.array] | None:
    q_shape, values, rows = q.shape, store.exact_values.shape, store.rows
    plan = _attend_plan(
        _backend(),
        q_shape,
        q.dtype,
        values,
        rows[0].live_tiles if len(rows) == 1 else max(row.live_tiles for row in rows),
        (store.key_bits, store.value_bits),
        (store.key_seed, store.value_seed),
        store.codebook,
        store.storage,
        kind,
        sinks is not None,
        store.value_threshold,
    )
    if plan is None:
        return None
    words: tuple[mx.array, ...]
    if store.key_bits == EXACT:
        words = store.value_words, store.value_scales
        window, exact_side = values[2], (store.exact_keys.shape[2], store.leading, store.gone)
    elif store.value_bits == EXACT:
        words = store.key_words, store.key_scales
        window, exact_side = store.exact_keys.shape[2], (values[2], store.leading, store.gone)
    else:
        words = store.key_words, store.key_scales, store.value_words, store.value_scales
        window, exact_side = values[2], (0, 0, 0)
    room = words[0].shape[2]
    params = _attend_params(
        plan, q_shape, values[1], room, window, rows, scale, mask_shape, exact_side
    )
    held = (*words, store.exact_keys, store.exact_values, store.centre_or_zero)
    return plan.step(q, *held, params, *(extra if sinks is None else (*extra, sinks)))
