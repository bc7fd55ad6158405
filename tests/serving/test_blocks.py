"""Where prompts are cut: every rule of serving/blocks.py."""

from __future__ import annotations

from itertools import accumulate

import mlx.core as mx
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import CacheList, KVCache

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.serving.blocks import block_end, cut_back, leaves, pieces, stores


def test_blocks_end_on_tiles_and_no_prompt_is_too_long() -> None:
    assert [block_end(n, 4) for n in (0, 259, 260, 515, 516, 1027, 1028)] == [
        0, 0, 260, 260, 516, 516, 1028,
    ]  # fmt: skip


@given(st.integers(0, 5000), st.integers(0, 3000), st.integers(0, 70))
def test_pieces_cross_no_end_of_a_block(start: int, length: int, sinks: int) -> None:
    cut = pieces(start, start + length, sinks)
    assert sum(cut) == length
    assert min(cut, default=1) > 0
    stops = [start + done for done in accumulate(cut)]
    for stop, n in zip(stops, cut, strict=True):
        assert block_end(stop - 1, sinks) <= stop - n  # none strictly inside
    assert all(block_end(stop, sinks) == stop for stop in stops[:-1])
    assert all((block_end(stop, sinks) - sinks) % TILE == 0 for stop in stops[:-1])


def test_layers_inside_a_list_are_found_and_trimmed() -> None:
    inner, plain = TurboQuantKVCache(scheme=Scheme(4, 4)), KVCache()
    cache = [CacheList(inner, KVCache()), plain]
    x = mx.random.normal((1, 2, 300, 64))
    for layer in leaves(cache):
        layer.update_and_fetch(x, x)
    assert stores(cache) == [inner.store]
    held = inner.nbytes
    cut_back(cache, 100)
    assert [layer.offset for layer in leaves(cache)] == [100] * 3
    assert inner.nbytes < held  # what was cut is given back
