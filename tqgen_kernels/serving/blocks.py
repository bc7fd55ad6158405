"""Where a prompt is cut, and which stores of a prompt cache are cut there.

A query sees its own block of the prompt exactly and every block before it packed. So what a token
leaves in the cache depends on the tokens up to it alone: not on where a stored prompt ended, nor on
how many requests were served at once. A stored prompt can be taken up again at the end of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx

from tqgen_kernels.cache.store import Store
from tqgen_kernels.quant.packing import TILE

FIRST, BLOCK = 8 * TILE, 16 * TILE  # tokens after the sinks: of the first block, up to a later end


def block_end(tokens: int, sinks: int) -> int:
    """The last end of a block within the first `tokens` tokens; 0 if there is none."""
    after = tokens - sinks
    if after < FIRST:
        return 0
    return sinks + max(after // BLOCK * BLOCK, FIRST)


def pieces(start: int, stop: int, sinks: int) -> list[int]:
    """The lengths of the parts into which the ends of blocks cut tokens start to stop."""
    cuts = {start, stop, sinks + FIRST, *range(sinks + BLOCK, stop, BLOCK)}
    return [b - a for a, b in pairwise(sorted(cut for cut in cuts if start <= cut <= stop))]


def leaves(cache: Sequence[Any]) -> Iterator[Any]:
    """Every layer's cache in a prompt cache, those inside a CacheList one by one."""
    for layer in cache:
        children = getattr(layer, "caches", None)
        if children is None:
            yield layer
        else:
            yield from leaves(children)


def stores(cache: Sequence[Any]) -> list[Store]:
    """The compressed stores of a prompt cache."""
    held = (getattr(layer, "store", None) for layer in leaves(cache))
    return [store for store in held if isinstance(store, Store)]


def read(model: Any, tokens: list[int], cache: list[Any], step: int) -> None:
    """Process tokens of a prompt, at most to the end of a block, and seal if that is reached."""
    for start in range(0, len(tokens), step):
        model(mx.array([tokens[start : start + step]]), cache=cache)
        mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    for store in stores(cache):
        if store.tokens and block_end(store.tokens, store.scheme.sinks) == store.tokens:
            store.seal()
    mx.eval([layer.state for layer in cache])


def cut_back(cache: Sequence[Any], length: int) -> None:
    """Trim every layer to its first `length` tokens. All must be trimmable."""
    for layer in leaves(cache):
        layer.trim(layer.offset - length)
    for store in stores(cache):
        store.shrink()
