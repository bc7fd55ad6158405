"""Prompt caches: one cache a layer, compressed where the model keeps plain keys and values."""

from __future__ import annotations

from typing import Any

from mlx_lm.models import cache as mlx_caches

from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.quant.scheme import Scheme

# CacheLists whose second KVCache is the index of a sparse attention, not keys and values.
_INDEXED = ("deepseek_v32", "glm_moe_dsa", "minimax_m3_vl", "minimax_m3")


def register() -> None:
    """Make mlx-lm's load_prompt_cache and CacheList find these classes by name."""
    for cls in (
        TurboQuantKVCache,
        RotatingTurboQuantKVCache,
        BatchTurboQuantKVCache,
        BatchRotatingTurboQuantKVCache,
    ):
        setattr(mlx_caches, cls.__name__, cls)


def make_prompt_cache(
    model: Any,
    max_kv_size: int | None = None,
    *,
    scheme: Scheme | str | None = None,
    bits: int | None = None,
    key_bits: int | None = None,
    value_bits: int | None = None,
) -> list[Any]:
    """A prompt cache for `model`, with every plain KVCache in it compressed.

    The scheme is named as in TurboQuantKVCache. max_kv_size: keep that many tokens, the first 4
    among them, in a model that does not say itself what caches it needs (mlx-lm's rule).

    Layers that keep something else (a sliding window, the state of a recurrent layer, chunks, an
    index) stay as the model makes them, as does a side whose head_dim has no rotation. Raises
    ValueError for a model without a layer to compress.
    """
    chosen = Scheme.of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme)
    plain = mlx_caches.make_prompt_cache(model, max_kv_size)
    kind = str(getattr(model, "model_type", ""))
    if max_kv_size is not None and not hasattr(model, "make_cache"):
        return [
            RotatingTurboQuantKVCache(w.max_size, w.keep, scheme=chosen, any_dim=True)
            for w in plain
        ]
    made = [_compressed(layer, chosen, kind) for layer in plain]
    if all(new is old for new, old in zip(made, plain, strict=True)):
        kinds = ", ".join(sorted({type(layer).__name__ for layer in plain})) or "none"
        raise ValueError(
            f"This model ({kind or type(model).__name__}) has no attention layer whose cache could "
            f"be compressed: its caches are {kinds}. Use mlx_lm's own make_prompt_cache for it."
        )
    return made


def _compressed(layer: Any, scheme: Scheme, model_type: str) -> Any:
    if type(layer) is mlx_caches.KVCache:
        return TurboQuantKVCache(scheme=scheme, any_dim=True)
    if type(layer) is mlx_caches.CacheList:
        children = list(layer.caches)
        last = 1 if model_type in _INDEXED else len(children)
        made = [_compressed(c, scheme, model_type) for c in children[:last]] + children[last:]
        if any(new is not old for new, old in zip(made, children, strict=True)):
            return type(layer)(*made)
    return layer


register()
