"""The token of a decode step, which waits until attention writes it into the window."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.cache.attention import plain_attention
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.execution import kernels

SCHEME = Scheme(4, 3, residual=8)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """An entry for each step that a kernel took with its token."""
    taken: list[bool] = []
    ran = kernels.attend_fresh

    def counted(*args: Any) -> Any:
        found = ran(*args)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(kernels, "attend_fresh", counted)
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    kernels.forget()
    yield taken
    kernels.forget()


def random(n: int, seed: int, heads: int = 2) -> mx.array:
    return mx.random.normal((1, heads, n, 64), key=mx.random.key(seed))


def filled(storage: str, monkeypatch: pytest.MonkeyPatch, make: Any = TurboQuantKVCache) -> Any:
    monkeypatch.setenv("TQGEN_STORAGE", storage)
    cache = make(scheme=SCHEME)
    cache.update_and_fetch(random(90, 1), random(90, 2))
    cache.store.settle()
    return cache


def attended(cache: Any, seed: int, times: int = 1) -> list[mx.array]:
    """As a model's attention layer does it."""
    q, mask = random(1, seed + 2000, heads=4), cache.make_mask(1)
    keys, values = cache.update_and_fetch(random(1, seed), random(1, seed + 1000))
    return [
        mx.fast.scaled_dot_product_attention(q, keys, values, scale=0.2, mask=mask)
        for _ in range(times)
    ]


def expected(cache: Any, seed: int) -> mx.array:
    return plain_attention(random(1, seed + 2000, heads=4), *cache.contents(), scale=0.2)


@pytest.mark.parametrize("storage", ["tiles", "fragment"])
def test_a_step_with_its_token_is_a_write_and_a_step(
    storage: str, monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache, written = (filled(storage, monkeypatch) for _ in range(2))
    tiles = cache.store.keys.tiles
    for seed in range(100, 140):
        (out,) = attended(cache, seed)
        written.append(random(1, seed), random(1, seed + 1000))
        assert mx.allclose(
            out, expected(written, seed), atol=2e-3 if storage == "fragment" else 2e-5
        )
        for side, other in zip(cache.store.sides(), written.store.sides(), strict=True):
            assert (side.tiles, side.count) == (other.tiles, other.count)
            assert mx.array_equal(side.exact[:, :, : side.count], other.exact[:, :, : side.count])
    assert cache.store.keys.tiles == tiles + 1  # a tile has left on the way
    assert sum(steps) >= 38


def test_whatever_asks_for_the_contents_sees_the_token_that_waits(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache = filled("tiles", monkeypatch)
    token = random(1, 7), random(1, 8)
    cache.append(*token)
    twin = copy.deepcopy(cache)
    assert cache.offset == cache.store.tokens == 91
    assert mx.array_equal(cache.contents()[0][:, :, -1:], token[0])
    assert mx.array_equal(
        twin.store.values.exact[:, :, : twin.store.values.count][:, :, -1:], token[1]
    )
    assert cache.nbytes == twin.nbytes
    cache.append(*token)
    assert cache.trim(2) == 2
    assert cache.store.tokens == 90
    assert TurboQuantKVCache.from_state(twin.state).store.tokens == 91
    assert not steps


def test_tokens_that_nobody_attends_to_are_kept(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache = filled("tiles", monkeypatch)
    for seed in range(5):
        cache.append(random(1, seed), random(1, seed + 1000))
    keys, _ = cache.contents()
    assert mx.array_equal(keys[:, :, -5:], mx.concatenate([random(1, s) for s in range(5)], axis=2))
    assert not steps


def test_two_layers_may_attend_to_one_step(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache = filled("tiles", monkeypatch)
    first, second = attended(cache, 5, times=2)
    assert mx.allclose(first, second, atol=2e-5)
    assert mx.allclose(first, expected(cache, 5), atol=2e-5)
    assert steps == [True]


def test_queries_of_another_dtype_find_the_token_written(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache = filled("tiles", monkeypatch)
    cache.append(random(1, 5), random(1, 1005))
    out = cache.attend(random(1, 2005, heads=4).astype(mx.float16), 0.2, None)
    assert mx.allclose(out, expected(cache, 5), atol=2e-3)
    assert cache.store.keys.exact.dtype == mx.float32
    assert not steps


def test_values_of_another_dtype_are_written_as_they_are(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    monkeypatch.setenv("TQGEN_STORAGE", "tiles")
    cache = TurboQuantKVCache(scheme=SCHEME)
    cache.append(random(90, 1), random(90, 2).astype(mx.float16))
    cache.store.settle()
    cache.append(random(1, 5), random(1, 1005).astype(mx.float16))
    out = cache.attend(random(1, 2005, heads=4), 0.2, None)
    assert out is not None
    assert mx.allclose(out, expected(cache, 5), atol=2e-3)
    assert cache.store.values.exact.dtype == mx.float16
    assert not steps


def test_a_sliding_window_takes_its_token_as_ever(
    monkeypatch: pytest.MonkeyPatch, steps: list[bool]
) -> None:
    cache = filled(
        "tiles", monkeypatch, lambda scheme: RotatingTurboQuantKVCache(70, 4, scheme=scheme)
    )
    for seed in range(100, 112):
        assert mx.allclose(attended(cache, seed)[0], expected(cache, seed), atol=2e-5)
    assert steps == [True] * 12
