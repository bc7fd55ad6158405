"""A prompt chunk over the packed store in one launch, where tuning chose a kernel for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from tqgen_kernels import backends
from tqgen_kernels.backends.portable import signs
from tqgen_kernels.codegen.families.prefill import params
from tqgen_kernels.codegen.problem import (
    PrefillProblem,
    batch_bucket,
    context_bucket,
    query_bucket,
)
from tqgen_kernels.execution.kernels import DTYPE_NAMES, compiled_for, numbers_array
from tqgen_kernels.quant.packing import TILE

if TYPE_CHECKING:
    from tqgen_kernels.backends.compiled import Compiled
    from tqgen_kernels.backends.packed import Packed


def prefill(
    q: mx.array,
    store: Packed,
    *,
    scale: float,
    causal: bool = True,
    sinks: mx.array | None = None,
    kernel: Compiled | None = None,
) -> mx.array | None:
    """Attention (B, Hq, L, Dv) of a prompt chunk over the store, None where no kernel was chosen
    for it: a tuning record of this device has to say that one is faster. `kernel` is one.

    causal: q (B, Hq, L, D) are the queries of the newest L tokens, all of them in the exact window,
    and none sees a later one; else each sees everything. sinks (Hq,) as of `operations.attend`.
    Method: FlashAttention-2 (arXiv 2307.08691, section 3.1), keys and values decoded where they
    are used, the output rotated while it is summed over the packed ones.
    """
    if any(row.unseen for row in store.rows):
        return None
    if causal and min(row.exact for row in store.rows) < q.shape[2]:
        return None
    kernel = kernel or _chosen(q, store, sinks is not None)
    if kernel is None:
        return None
    batch, heads, q_len, key_dim = q.shape
    _, kv_heads, window, value_dim = store.exact_values.shape
    rows = [(row.tiles, row.exact) for row in store.rows]
    numbers = params(
        rows if len(rows) == batch else rows * batch,
        room=store.key_words.shape[2],
        heads=heads,
        gqa=heads // kv_heads,
        q_len=q_len,
        window=window,
        scale=scale,
        causal=causal,
    )
    inputs = {
        "queries": q,
        "key_words": store.key_words,
        "key_scales": store.key_scales,
        "value_words": store.value_words,
        "value_scales": store.value_scales,
        "exact_keys": store.exact_keys,
        "exact_values": store.exact_values,
        "key_centre": store.centre_or_zero,
        "signs": signs(key_dim, store.key_seed),
        "value_signs": signs(value_dim, store.value_seed),
        "params": numbers_array(*numbers),
    }
    return kernel(inputs if sinks is None else {**inputs, "sinks": sinks}, {})[0]


def _chosen(q: mx.array, store: Packed, sinks: bool) -> Compiled | None:
    batch, heads, q_len, key_dim = q.shape
    _, kv_heads, _, value_dim = store.exact_values.shape
    tokens = max(row.tiles * TILE + row.exact for row in store.rows)
    try:
        return compiled_for(
            PrefillProblem,
            backends.default_name(),
            key_dim=key_dim,
            value_dim=value_dim,
            key_bits=store.key_bits,
            value_bits=store.value_bits,
            dtype=DTYPE_NAMES[q.dtype],
            codebook=store.codebook,
            storage=store.storage,
            sinks=sinks,
            heads=heads,
            kv_heads=kv_heads,
            batch=batch_bucket(batch),
            queries=query_bucket(q_len),
            context=context_bucket(tokens),
        )
    except ValueError:  # a shape that no kernel takes
        return None
