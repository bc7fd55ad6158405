"""Fewer bits in the middle: the first and the last layers stay in fp16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlx_lm.models.cache import KVCache

from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.quant.layered import LayeredScheme, exact_ends, for_layers, scheme_of
from tqgen_kernels.quant.scheme import Guard, Scheme


def make_adaptive_cache(
    num_layers: int,
    bits: int | None = None,
    fp16_layers: int = 4,
    *,
    key_bits: int | None = None,
    value_bits: int | None = None,
    scheme: Scheme | LayeredScheme | str | Path | None = None,
    guard: Guard | None = None,
) -> list[Any]:
    """A cache a layer: the first and last `fp16_layers` uncompressed, the others TurboQuant.

    The scheme is named as in make_prompt_cache; nothing given is 3 bits. The model must use one
    plain cache a layer; `make_prompt_cache` takes any model. Raises ValueError for bad counts.
    """
    for name, count, least in (("num_layers", num_layers, 1), ("fp16_layers", fp16_layers, 0)):
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise ValueError(f"{name} {count!r} is not supported: give an integer from {least} on.")
    if (bits, key_bits, value_bits, scheme) == (None,) * 4:
        bits = 3
    chosen = scheme_of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme, guard=guard)
    schemes = exact_ends(for_layers(chosen, num_layers), fp16_layers)
    return [_layer(own, f"Layer {i}") for i, own in enumerate(schemes)]


def _layer(scheme: Scheme, label: str) -> Any:
    plain: Any = KVCache
    if (scheme.key_bits, scheme.value_bits) == (None, None):
        return plain()
    made = TurboQuantKVCache(scheme=scheme, any_dim=True)
    made.store.label = label
    return made
