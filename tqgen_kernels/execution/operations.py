"""What a compressed cache computes, on mx.arrays: encode, dequantize, attend.

Each operation is a compiled kernel where the registry chose one, else plain MLX. Shapes: B batch,
H key/value heads, Hq query heads, D head_dim; a tile is 32 tokens (docs/architecture.md, Storage).
"""

from __future__ import annotations

from typing import Literal

import mlx.core as mx

from tqgen_kernels import backends
from tqgen_kernels.backends import portable
from tqgen_kernels.backends.packed import Layout, Packed
from tqgen_kernels.codegen.problem import EXACT
from tqgen_kernels.execution import kernels
from tqgen_kernels.quant.codebook import CodebookKind, side_kind
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.packing import TILE

MAX_Q_LEN = 8  # tokens that one call of `attend` takes


def encode(
    x: mx.array,
    *,
    bits: int,
    seed: int,
    layout: Layout,
    norm_correction: bool = True,
    codebook: CodebookKind = "lloyd-max",
) -> tuple[mx.array, mx.array]:
    """Vectors x (B, H, 32 n, D) to words and scales (B, H, n, 32) float16.

    words, uint32: (B, H, n, ceil(D * bits / 32), 32) for layout 'key', (B, H, n, bits, D) for
    'value', (B, H, n, D / 32 * bits, 32) for both fragment layouts.
    Method: TurboQuant (arXiv 2504.19874, section 3) with a randomised Hadamard rotation.
    Raises ValueError for a head_dim without a rotation or a part of a tile.
    """
    factor(x.shape[-1])
    if x.ndim != 4 or x.shape[2] % TILE:
        raise ValueError(f"encode takes (batch, heads, 32 n, head_dim), not {x.shape}.")
    out = kernels.encode(x, bits, seed, layout, norm_correction, codebook)
    if out is not None:
        return out
    return portable.encode(
        x,
        bits=bits,
        seed=seed,
        layout=layout,
        norm_correction=norm_correction,
        codebook=codebook,
    )


def dequantize(
    words: mx.array,
    scales: mx.array,
    *,
    tiles: int,
    head_dim: int,
    bits: int,
    seed: int,
    layout: Layout,
    dtype: mx.Dtype,
    rotated: bool = False,
    codebook: CodebookKind = "lloyd-max",
) -> mx.array:
    """The vectors (B, H, 32 tiles, D) that the first `tiles` tiles stand for, in `dtype`.

    rotated: leave them in the rotated basis, y = R x.
    """
    out = kernels.dequantize(
        words, scales, tiles, head_dim, bits, seed, layout, dtype, rotated, codebook
    )
    if out is not None:
        return out
    return portable.dequantize(
        words,
        scales,
        tiles=tiles,
        head_dim=head_dim,
        bits=bits,
        seed=seed,
        layout=layout,
        dtype=dtype,
        rotated=rotated,
        codebook=codebook,
    )


def attend(q: mx.array, store: Packed, *, scale: float, sinks: mx.array | None = None) -> mx.array:
    """softmax(scale q k^T) v over everything in the store: (B, Hq, L, Dv) in q's dtype.

    sinks (Hq,): a logit a head that takes weight and brings no value, as gpt-oss has them.

    However long the rows of the batch are, it is two launches for all of them. A side may be
    exact (Packed says how); values below store.value_threshold may be left out.

    q (B, Hq, L, D), L at most 8, are the queries of the newest L tokens; query i does not see the
    tokens after its own. Packed tokens are never un-rotated: R q is scored against codes, and the
    weighted sum of codes is un-rotated once.
    """
    out = kernels.attend(q, store, scale, sinks)
    if out is not None:
        return out
    if store.has_exact_side or kernels.attend_road(q, store) == "sdpa":
        return attend_dequantized(q, store, scale=scale, sinks=sinks)
    return portable.attend(q, store, scale=scale, sinks=sinks)


def attend_fresh(
    q: mx.array,
    store: Packed,
    keys: mx.array,
    values: mx.array,
    *,
    scale: float,
    sinks: mx.array | None = None,
) -> list[mx.array] | None:
    """`attend` where the queries' own tokens, keys (B, H, L, D) and values (B, H, L, Dv), are not
    in the store yet: its window must have room for them.

    The output, then the exact keys and values with those tokens in them; None where no kernel
    does that.
    """
    return kernels.attend_fresh(q, store, (keys, values), scale, sinks)


def attend_masked(
    q: mx.array,
    store: Packed,
    mask: mx.array,
    *,
    scale: float,
    sinks: mx.array | None = None,
) -> mx.array | None:
    """`attend` where `mask` alone says what each query sees; None where no kernel does that.

    mask: boolean or additive, as of mx.fast.scaled_dot_product_attention, broadcastable to
    (B, Hq, L, T) over the T tokens of the store; its last axis must be T.
    """
    row, tokens = store.rows[0], mask.shape[-1]
    packed = row.tiles * TILE - row.unseen
    fits = len(store.rows) == 1 and tokens == packed + row.exact
    if not fits or mask.ndim > 4 or backends.default_name() == backends.PORTABLE:
        return None
    mask = mask.reshape(*[1] * (4 - mask.ndim), *mask.shape)
    allowed = zip(mask.shape, (*q.shape[:3], tokens), strict=True)
    if any(size not in (1, most) for size, most in allowed):
        return None
    if store.leading:
        order = (slice(store.leading, store.leading + packed), slice(0, store.leading))
        rest = slice(store.leading + packed, None)
        mask = mx.concatenate([mask[..., part] for part in (*order, rest)], axis=-1)
    return kernels.attend(q, store, scale, sinks, mask)


def attend_dequantized(
    q: mx.array,
    store: Packed,
    *,
    scale: float,
    sinks: mx.array | None = None,
    mask: mx.array | None = None,
) -> mx.array:
    """What `attend` gives, by MLX's attention over dequantised keys and values: the road that
    tuning chooses where no kernel of ours is faster.

    mask (B or 1, Hq or 1, L or 1, T) says all, as in `attend_masked`; None is causal.
    """
    if len(store.rows) > 1:
        outs = []
        for i in range(len(store.rows)):
            own = mask if mask is None or mask.shape[0] == 1 else mask[i : i + 1]
            outs.append(
                attend_dequantized(q[i : i + 1], store.row(i), scale=scale, sinks=sinks, mask=own)
            )
        return mx.concatenate(outs)
    tiles, _, unseen = store.rows[0]
    sides: dict[Literal["key", "value"], tuple[mx.array, ...]] = {
        "key": (store.key_words, store.key_scales, store.exact_keys),
        "value": (store.value_words, store.value_scales, store.exact_values),
    }
    contents = []
    for side, (words, scales, exact) in sides.items():
        layout: Layout = side if store.storage == "tiles" else f"{side}_fragment"  # type: ignore[assignment]
        bits = store.key_bits if side == "key" else store.value_bits
        packed, held = (x.astype(q.dtype) for x in store.window_of(exact, bits))
        if bits == EXACT:
            held = mx.concatenate([packed, held], axis=2)
        elif tiles:
            packed = dequantize(
                words,
                scales,
                tiles=tiles,
                head_dim=exact.shape[-1],
                bits=bits,
                seed=store.key_seed if side == "key" else store.value_seed,
                layout=layout,
                dtype=q.dtype,
                codebook=side_kind(store.codebook, side),
            )
            if side == "key" and store.centre is not None:
                packed = packed + store.centre.astype(packed.dtype)
            held = mx.concatenate([packed[:, :, unseen:], held], axis=2)
        contents.append(held)
    seen: mx.array | str | None = "causal" if q.shape[2] > 1 else None
    if mask is not None:
        seen = mask[..., : contents[0].shape[2]]
    return mx.fast.scaled_dot_product_attention(q, *contents, scale=scale, mask=seen, sinks=sinks)
