"""The caches that `tqgen eval` compares, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from tqgen_kernels.quant.codebook import CodebookKind
from tqgen_kernels.quant.layered import LayeredScheme, for_layers, is_path, read_scheme
from tqgen_kernels.quant.scheme import SCHEMES, Scheme

from .teacher import CacheFactory

MLX_GROUP = 64  # values that share mlx-lm's fp16 scale and bias
DEFAULT_NAMES = ("fp16", "mlx-8", "mlx-4", "mlx-3", *SCHEMES)
CUSTOM = re.compile(r"k([1-8]|16)v([1-8]|16)(?:-(lloyd-max|uniform|cubic|mixed))?")


@dataclass(frozen=True)
class Contender:
    """A cache to measure. `bits`: codes and scales, mean of keys and values, per stored value;
    fp16 exact windows are not in it (`stored_bytes` has them). spec: all that the name stands
    for, so that a measurement is never taken for one of another cache."""

    name: str
    factory: CacheFactory
    bits: float
    spec: str


def contender(
    name: str,
    shapes: Sequence[tuple[int, int, int]],
    *,
    centre: bool = True,
    guard: str | None = None,
) -> Contender:
    """The contender called `name` for a model with these kv_shapes.

    'fp16'; 'mlx-B' (mlx-lm's QuantizedKVCache, B in 2, 3, 4, 6, 8); a named Scheme; 'kXvY',
    the default scheme with X key bits and Y value bits (16: not compressed), with '-lloyd-max',
    '-uniform', '-cubic' or '-mixed' for that codebook; or the path of a scheme file, *.json.
    centre: False leaves it out of our schemes. guard: in place of theirs. Raises ValueError.
    """
    if name == "fp16":
        return Contender(name, plain_cache, 16.0, name)
    if name in {f"mlx-{bits}" for bits in (2, 3, 4, 6, 8)}:
        bits = int(name.removeprefix("mlx-"))
        return Contender(name, _mlx_factory(bits), bits + 32 / MLX_GROUP, name)
    scheme = scheme_of(name)
    if not centre:
        scheme = scheme.changed(centre=False)
    if guard is not None:
        scheme = scheme.changed(guard=guard)
    shown = Path(name).stem if isinstance(scheme, LayeredScheme) else name
    bits_stored = scheme_bits(scheme, shapes)
    return Contender(shown, _turboquant_factory(scheme), bits_stored, repr(scheme))


def scheme_of(name: str) -> Scheme | LayeredScheme:
    """The scheme of a TurboQuant contender: a named one, 'kXvY', or that of a file.

    Raises ValueError, and OSError for a file.
    """
    if is_path(name):
        return read_scheme(Path(name))
    if match := CUSTOM.fullmatch(name):
        key, value = (None if side == "16" else int(side) for side in match.groups()[:2])
        kind = cast("CodebookKind", match[3] or Scheme.codebook)
        return Scheme(key_bits=key, value_bits=value, codebook=kind)
    if name not in SCHEMES:
        raise ValueError(
            f"cache {name!r} is unknown: choose fp16, mlx-8, mlx-6, mlx-4, mlx-3, mlx-2, "
            f"{', '.join(SCHEMES)}, kXvY with 1 to 8 or 16 bits, as in k4v2 or k4v3-uniform, or a "
            "scheme file that ends in .json."
        )
    return SCHEMES[name]


def scheme_bits(scheme: Scheme | LayeredScheme, shapes: Sequence[tuple[int, int, int]]) -> float:
    """Bits of codes and fp16 scales per value of a scheme, over all layers and both sides.

    Raises ValueError for a LayeredScheme of another number of layers.
    """
    total = values = 0.0
    for own, (heads, key_dim, value_dim) in zip(
        for_layers(scheme, len(shapes)), shapes, strict=True
    ):
        for dim, bits in ((key_dim, own.key_bits), (value_dim, own.value_bits)):
            total += heads * (16 * dim if bits is None else bits * dim + 16)
            values += heads * dim
    return total / values


def plain_cache(model: Any) -> list[Any]:
    """mlx-lm's own prompt cache: the reference."""
    from mlx_lm.models.cache import make_prompt_cache

    made: list[Any] = make_prompt_cache(model)
    return made


def _mlx_factory(bits: int) -> CacheFactory:
    def factory(model: Any) -> list[Any]:
        from mlx_lm.models.cache import KVCache, QuantizedKVCache

        return [
            QuantizedKVCache(group_size=MLX_GROUP, bits=bits) if type(layer) is KVCache else layer
            for layer in plain_cache(model)
        ]

    return factory


def _turboquant_factory(scheme: Scheme | LayeredScheme) -> CacheFactory:
    def factory(model: Any) -> list[Any]:
        from tqgen_kernels import apply_patch, make_prompt_cache

        apply_patch()
        made: list[Any] = make_prompt_cache(model, scheme=scheme)
        return made

    return factory


def why_not(contender: Contender, model: Any) -> str | None:
    """What goes wrong when a few tokens run through this cache, or None if nothing does."""
    try:
        cache = contender.factory(model)
        for tokens in ([[1, 2, 3, 4]], [[5]]):
            mx.eval(model(mx.array(tokens), cache=cache), [layer.state for layer in cache])
    except Exception as error:  # the contender is what is on trial: report, go on with the others
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def cache_bytes(
    factory: CacheFactory, model: Any, shapes: Sequence[tuple[int, int, int]], tokens: int
) -> int:
    """nbytes of the attention layers' caches after `tokens` random tokens in float16.

    Everything that is allocated counts: codes, scales, exact windows, slack. The model is not
    run. Layers that keep no keys and values are left out.
    """
    from mlx_lm.models.cache import KVCache

    plain = plain_cache(model)
    layers = [
        layer
        for layer, reference in zip(factory(model), plain, strict=True)
        if isinstance(reference, KVCache)
    ]
    total = 0
    for layer, (heads, key_dim, value_dim) in zip(layers, shapes, strict=True):
        for start in range(0, tokens, 512):
            n = min(512, tokens - start)
            keys = mx.random.normal((1, heads, n, key_dim)).astype(mx.float16)
            values = mx.random.normal((1, heads, n, value_dim)).astype(mx.float16)
            layer.update_and_fetch(keys, values)
            mx.eval(layer.state)
        total += int(layer.nbytes)
    return total
