"""The problems that a model's attention layers meet under a scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tqgen_kernels.codegen.problem import (
    DTYPES,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    Dtype,
    EncodeProblem,
    Layout,
    PrefillProblem,
    Problem,
    Storage,
)
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.scheme import Scheme

DEFAULT_CONTEXTS = (1024, 4096, 16384)
PROMPT_CHUNK = 2048  # tokens that mlx-lm feeds at a time


@dataclass(frozen=True)
class AttentionShape:
    """One shape of attention layer. key_dim and value_dim are head_dims."""

    heads: int
    kv_heads: int
    key_dim: int
    value_dim: int

    def __post_init__(self) -> None:
        if min(self.heads, self.kv_heads) < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"{self.heads} query heads cannot share {self.kv_heads} key/value heads: "
                "the first must be a multiple of the second."
            )


def shape_of(config: Mapping[str, Any]) -> AttentionShape:
    """From a model's config.json (its text part, where there is one).

    Raises ValueError that names the field that is missing.
    """
    config = config.get("text_config") or config
    heads = config.get("num_attention_heads")
    if not isinstance(heads, int):
        raise ValueError(
            "The model's config has no num_attention_heads: give the shape with --head-dim, "
            "--heads and --kv-heads."
        )
    kv_heads = config.get("num_key_value_heads") or heads
    dim = config.get("head_dim")
    if dim is None:
        hidden = config.get("hidden_size")
        if not isinstance(hidden, int):
            raise ValueError("The model's config has neither head_dim nor hidden_size.")
        dim = hidden // heads
    key_dim = config.get("qk_nope_head_dim", 0) + config.get("qk_rope_head_dim", 0)
    return AttentionShape(heads, kv_heads, key_dim or dim, config.get("v_head_dim") or dim)


def model_problems(
    shape: AttentionShape,
    scheme: Scheme,
    dtype: str,
    *,
    contexts: tuple[int, ...] = DEFAULT_CONTEXTS,
    batch: int = 1,
    q_len: int = 1,
    storage: Storage = "tiles",
) -> tuple[Problem, ...]:
    """Encode and dequantize of each packed side; attend, combine and prefill where both are."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported: use one of {', '.join(DTYPES)}.")
    kind: Dtype = dtype  # type: ignore[assignment]
    found: list[Problem] = []
    suffix = "_fragment" if storage == "fragment" else ""
    sides: tuple[tuple[Literal["key", "value"], int, int | None], ...] = (
        ("key", shape.key_dim, scheme.key_bits),
        ("value", shape.value_dim, scheme.value_bits),
    )
    for which, dim, bits in sides:
        layout: Layout = which + suffix  # type: ignore[assignment]
        if bits is not None:
            found.append(
                EncodeProblem(
                    dim,
                    bits,
                    layout,
                    kind,
                    scheme.norm_correction,
                    side_kind(scheme.codebook, which),
                    kv_heads=shape.kv_heads,
                    batch=batch,
                )
            )
            found.append(
                DequantizeProblem(
                    dim,
                    bits,
                    layout,
                    kind,
                    codebook=side_kind(scheme.codebook, which),
                    kv_heads=shape.kv_heads,
                    batch=batch,
                )
            )
    if scheme.key_bits is None or scheme.value_bits is None:
        return tuple(found)
    found.append(CombineProblem(shape.value_dim, kind, heads=shape.heads, batch=batch))
    for context in contexts:
        found.append(
            AttendProblem(
                shape.key_dim,
                shape.value_dim,
                scheme.key_bits,
                scheme.value_bits,
                gqa=shape.heads // shape.kv_heads,
                q_len=q_len,
                dtype=kind,
                codebook=scheme.codebook,
                storage=storage,
                kv_heads=shape.kv_heads,
                batch=batch,
                context=context,
            )
        )
    found.extend(_prompt_chunks(shape, scheme, kind, contexts, batch, storage))
    return tuple(found)


def _prompt_chunks(
    shape: AttentionShape,
    scheme: Scheme,
    dtype: Dtype,
    contexts: tuple[int, ...],
    batch: int,
    storage: Storage,
) -> list[Problem]:
    """Chunks as mlx-lm cuts a prompt, after other tokens; none where no kernel takes the shape."""
    assert scheme.key_bits is not None
    assert scheme.value_bits is not None
    try:
        one = PrefillProblem(
            shape.key_dim,
            shape.value_dim,
            scheme.key_bits,
            scheme.value_bits,
            dtype,
            scheme.codebook,
            storage,
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            batch=batch,
            queries=PROMPT_CHUNK,
        )
    except ValueError:
        return []
    return [replace(one, context=context) for context in contexts if context > PROMPT_CHUNK]
