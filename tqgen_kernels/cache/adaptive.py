"""Fewer bits in the middle: the first and the last layers stay in fp16."""

from __future__ import annotations

from typing import Any

from mlx_lm.models.cache import KVCache

from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.quant.scheme import Scheme


def make_adaptive_cache(
    num_layers: int,
    bits: int | None = None,
    fp16_layers: int = 4,
    *,
    key_bits: int | None = None,
    value_bits: int | None = None,
    scheme: Scheme | str | None = None,
) -> list[Any]:
    """A cache a layer: the first and last `fp16_layers` uncompressed, the others TurboQuant.

    The scheme is named as in TurboQuantKVCache; nothing given is 3 bits. The model must use one
    plain cache a layer; `make_prompt_cache` takes any model. Raises ValueError for bad counts.
    """
    for name, count, least in (("num_layers", num_layers, 1), ("fp16_layers", fp16_layers, 0)):
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise ValueError(f"{name} {count!r} is not supported: give an integer from {least} on.")
    if (bits, key_bits, value_bits, scheme) == (None,) * 4:
        bits = 3
    chosen = Scheme.of(bits, key_bits=key_bits, value_bits=value_bits, scheme=scheme)
    plain: Any = KVCache
    middle = range(fp16_layers, num_layers - fp16_layers)
    return [
        TurboQuantKVCache(scheme=chosen, any_dim=True) if layer in middle else plain()
        for layer in range(num_layers)
    ]
