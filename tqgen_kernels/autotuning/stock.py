"""Attention over the caches that mlx-lm brings: what an attend problem is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from tqgen_kernels.backends.compiled import to_numpy
from tqgen_kernels.codegen.families.vectors import relative_l2
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import AttendProblem
from tqgen_kernels.quant import reference

AFFINE_BITS = (2, 3, 4, 5, 6, 8)  # of mx.quantize


def inputs(road: str, problem: AttendProblem, tokens: int) -> dict[str, Any]:
    """Random queries, `tokens` random keys and values as `road` stores them, and a mask if any.

    fp16: (B, H, tokens, D) in the problem's dtype. affine: (words, scales, biases) of mx.quantize,
    with the fewest bits that are no fewer than the problem's. mask: of the kind that the problem
    has, (1, 1, q_len, tokens), random; every query sees the first token.
    """
    p = problem
    dtype = getattr(mx, p.dtype)

    def random(heads: int, length: int, dim: int) -> mx.array:
        return mx.random.normal((p.batch, heads, length, dim)).astype(dtype)

    keys, values = random(p.kv_heads, tokens, p.key_dim), random(p.kv_heads, tokens, p.value_dim)
    found: dict[str, Any] = {"queries": random(p.kv_heads * p.gqa, p.q_len, p.key_dim)}
    if road == "affine":
        wanted = max(p.key_bits, p.value_bits)
        bits = next(b for b in AFFINE_BITS if b >= wanted)
        group = 64 if p.key_dim % 64 == p.value_dim % 64 == 0 else 32
        found |= {"bits": bits, "group_size": group}
        found["keys"] = tuple(mx.quantize(keys, group_size=group, bits=bits))
        found["values"] = tuple(mx.quantize(values, group_size=group, bits=bits))
    else:
        found |= {"keys": keys, "values": values}
    if p.mask != "none":
        shown = mx.random.uniform(shape=(1, 1, p.q_len, tokens)) < 0.7
        shown[..., 0] = True
        found["mask"] = shown if p.mask == "boolean" else random(1, p.q_len, tokens)[:1]
    mx.eval(*found.values())
    return found


def attend(road: str, found: Mapping[str, Any], scale: float) -> mx.array:
    """The attention (B, Hq, L, Dv) of the newest L tokens, by what mlx-lm calls for that cache."""
    q = found["queries"]
    mask = found.get("mask", "causal" if q.shape[2] > 1 else None)
    if road == "fp16":
        return mx.fast.scaled_dot_product_attention(
            q, found["keys"], found["values"], scale=scale, mask=mask
        )
    from mlx_lm.models.base import quantized_scaled_dot_product_attention

    out: mx.array = quantized_scaled_dot_product_attention(
        q * 1,  # it scales its queries in place
        found["keys"],
        found["values"],
        scale=scale,
        mask=mask,
        group_size=found["group_size"],
        bits=found["bits"],
    )
    return out


def nbytes(found: Mapping[str, Any]) -> int:
    """Of keys and values, which attention must read."""
    sides = (found["keys"], found["values"])
    return sum(a.nbytes for side in sides for a in (side if isinstance(side, tuple) else (side,)))


def verify(road: str, problem: AttendProblem, tokens: int) -> Verification:
    """Against float64 on the same stored keys and values."""
    found = inputs(road, problem, tokens)
    scale = problem.key_dim**-0.5
    out = to_numpy(attend(road, found, scale))
    keys, values = (_plain(road, found, side) for side in ("keys", "values"))
    if problem.mask == "none":
        later = np.arange(tokens) > tokens - problem.q_len + np.arange(problem.q_len)[:, None]
        mask = np.where(later, -np.inf, 0.0)
    else:
        given = to_numpy(found["mask"])
        mask = np.where(given, 0.0, -np.inf) if problem.mask == "boolean" else given
    expected = reference.attend(to_numpy(found["queries"]), keys, values, scale, mask)
    tolerance = {"float32": 4e-3, "float16": 1e-2, "bfloat16": 5e-2}[problem.dtype]
    return relative_l2(out, expected, tolerance)


def _plain(road: str, found: Mapping[str, Any], side: str) -> Any:
    stored = found[side]
    if road == "affine":
        sizes = {"group_size": found["group_size"], "bits": found["bits"]}
        stored = mx.dequantize(*stored, **sizes)
    return to_numpy(stored)
