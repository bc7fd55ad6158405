"""Prompt caches: one cache a layer, compressed where the model keeps plain keys and values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_lm.models import cache as mlx_caches

from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.execution import ranks
from tqgen_kernels.quant.layered import LayeredScheme, exact_ends, for_layers, scheme_of
from tqgen_kernels.quant.scheme import Guard, Scheme

# CacheLists whose second KVCache is the index of a sparse attention, not keys and values.
_INDEXED = ("deepseek_v32", "glm_moe_dsa", "minimax_m3_vl", "minimax_m3")


KEPT = 4  # first tokens that stay under max_kv_size, as mlx-lm has it


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
    scheme: Scheme | LayeredScheme | str | Path | None = None,
    bits: int | None = None,
    key_bits: int | None = None,
    value_bits: int | None = None,
    guard: Guard | None = None,
    fp16_layers: int = 0,
) -> list[Any]:
    """A prompt cache for `model`, with every plain KVCache in it compressed.

    The scheme is named as in TurboQuantKVCache, or is one a layer: a LayeredScheme, or the path of
    a file that `tqgen calibrate` wrote (a string that ends in .json). max_kv_size: keep that many
    tokens, the first 4 among them, in a model that does not say itself what caches it needs
    (mlx-lm's rule). fp16_layers: leave this many of those layers, at either end, as they are.

    Layers that keep something else (a sliding window, the state of a recurrent layer, chunks, an
    index) stay as the model makes them, as does a side whose head_dim has no rotation. Where a
    model is sharded over processes, the first call is a collective: all choose kernels as rank 0
    does. Raises ValueError for a model without a layer to compress, or with more or fewer than the
    schemes.
    """
    chosen = scheme_of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme, guard=guard)
    if isinstance(fp16_layers, bool) or not isinstance(fp16_layers, int) or fp16_layers < 0:
        raise ValueError(f"fp16_layers {fp16_layers!r} is not supported: give an integer from 0.")
    plain = _plain_caches(model, max_kv_size)
    kind = str(getattr(model, "model_type", ""))
    # A window that the model asks for is short and stays; one that the caller asks for is not.
    windows = max_kv_size is not None and _own_make_cache(model) is None
    trial = [_compressed(layer, Scheme(), kind, windows) for layer in plain]
    changed = [i for i, old in enumerate(plain) if trial[i] is not old]
    if not changed:
        kinds = ", ".join(sorted({type(layer).__name__ for layer in plain})) or "none"
        raise ValueError(
            f"This model ({kind or type(model).__name__}) has no attention layer whose cache could "
            f"be compressed: its caches are {kinds}. Use mlx_lm's own make_prompt_cache for it."
        )
    made = list(plain)
    schemes = exact_ends(for_layers(chosen, len(changed)), fp16_layers)
    for i, own in zip(changed, schemes, strict=True):
        if (own.key_bits, own.value_bits) != (None, None):
            made[i] = _compressed(plain[i], own, kind, windows, f"Layer {i}")
    ranks.agree_on(model)
    return made


def attach(model: Any, max_kv_size: int | None = None, **options: Any) -> None:
    """Let the model itself make compressed caches, so that all of mlx-lm uses them.

    Takes what make_prompt_cache takes, and raises what it raises. A second call replaces the first.
    """
    if isinstance(path := options.get("scheme"), str | Path):
        options["scheme"] = scheme_of(scheme=path)  # a file is read once, and may go then
    make_prompt_cache(model, max_kv_size, **options)
    own = _own_make_cache(model)

    def make_cache() -> list[Any]:
        return make_prompt_cache(model, max_kv_size, **options)

    make_cache.own = own  # type: ignore[attr-defined]
    model.make_cache = make_cache


def _own_make_cache(model: Any) -> Callable[[], list[Any]] | None:
    """The model's make_cache, without what `attach` put over it."""
    found = getattr(model, "make_cache", None)
    own: Callable[[], list[Any]] | None = getattr(found, "own", found)
    return own


def _plain_caches(model: Any, max_kv_size: int | None) -> list[Any]:
    own = _own_make_cache(model)
    if own is not None:
        return own()
    layers = range(len(model.layers))
    plain: Any = mlx_caches.KVCache
    if max_kv_size is None:
        return [plain() for _ in layers]
    if max_kv_size <= KEPT:
        raise ValueError(
            f"max_kv_size {max_kv_size} is not supported: the first {KEPT} tokens stay, "
            f"give at least {KEPT + 1}."
        )
    rotating: Any = mlx_caches.RotatingKVCache
    return [rotating(max_size=max_kv_size, keep=KEPT) for _ in layers]


def _compressed(layer: Any, scheme: Scheme, model_type: str, windows: bool, label: str = "") -> Any:
    made: TurboQuantKVCache | None = None
    if type(layer) is mlx_caches.KVCache:
        made = TurboQuantKVCache(scheme=scheme, any_dim=True)
    elif windows and type(layer) is mlx_caches.RotatingKVCache:
        made = RotatingTurboQuantKVCache(layer.max_size, layer.keep, scheme=scheme, any_dim=True)
    if made is not None:
        made.store.label = label
        return made
    if type(layer) is mlx_caches.CacheList:
        children = list(layer.caches)
        last = 1 if model_type in _INDEXED else len(children)
        parts = [_compressed(c, scheme, model_type, windows, label) for c in children[:last]]
        if any(new is not old for new, old in zip(parts, children, strict=False)):
            return type(layer)(*parts, *children[last:])
    return layer


register()
