"""One side in the model's dtype: decode steps read it and the tiles of the other in the kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.cache import attention
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.execution import kernels

plain = attention.plain_attention
SIDES = [(None, 3), (4, None)]


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    kernels.forget()
    yield
    kernels.forget()


def made(n: int, batch: int = 1, seed: int = 0) -> tuple[mx.array, ...]:
    """Keys, values and queries of n tokens."""
    k, v, q = mx.random.split(mx.random.key(seed), 3)
    shapes = ((k, 2, 64), (v, 2, 96), (q, 6, 64))
    return tuple(mx.random.normal((batch, h, n, d), key=key) for key, h, d in shapes)


def scheme(bits: tuple[int | None, int | None], **fields: Any) -> Scheme:
    return Scheme(*bits, guard="off", **fields)


def ask(cache: Any, q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
    """The attention of the hook, which must not have read the dequantised content."""
    held = cache.update_and_fetch(k, v)
    assert cache.attend(q, 0.2, options.get("mask"), options.get("sinks")) is not None
    return mx.fast.scaled_dot_product_attention(q, *held, scale=0.2, **options)


@pytest.mark.parametrize("bits", SIDES)
@pytest.mark.parametrize("n", [1, 4])
def test_a_step_equals_attention_over_the_content(bits: Any, n: int) -> None:
    cache = TurboQuantKVCache(scheme=scheme(bits))
    cache.append(*made(150)[:2])
    k, v, q = made(n, seed=1)
    options = {"mask": None if n == 1 else "causal", "sinks": mx.array([1.0, -2, 0, 3, 5, 0])}
    out = ask(cache, q, k, v, **options)
    assert mx.allclose(out, plain(q, *cache.contents(), scale=0.2, **options), atol=3e-5)


@pytest.mark.parametrize("bits", SIDES)
def test_any_mask(bits: Any) -> None:
    cache = TurboQuantKVCache(scheme=scheme(bits))
    cache.append(*made(150)[:2])
    k, v, q = made(2, seed=1)
    seen = mx.random.uniform(shape=(1, 1, 2, 152), key=mx.random.key(5)) < 0.6
    out = ask(cache, q, k, v, mask=seen)
    assert mx.allclose(out, plain(q, *cache.contents(), scale=0.2, mask=seen), atol=3e-5)


@pytest.mark.parametrize("bits", SIDES)
def test_a_sliding_window_and_a_trim(bits: Any) -> None:
    cache = RotatingTurboQuantKVCache(max_size=100, keep=4, scheme=scheme(bits))
    for i, n in enumerate((120, 1, 1, 37)):
        cache.append(*made(n, seed=i)[:2])
    k, v, q = made(1, seed=9)
    out = ask(cache, q, k, v)
    assert mx.allclose(out, plain(q, *cache.contents(), scale=0.2), atol=3e-5)
    whole = TurboQuantKVCache(scheme=scheme(bits))
    whole.append(*made(170)[:2])
    whole.trim(23)
    out = ask(whole, q, k, v)
    assert mx.allclose(out, plain(q, *whole.contents(), scale=0.2), atol=3e-5)


def test_rows_of_different_lengths_are_answered_one_by_one() -> None:
    rows = []
    for i, n in enumerate((150, 90)):
        rows.append(TurboQuantKVCache(scheme=scheme((None, 3))))
        rows[-1].append(*made(n, seed=i)[:2])
    batch = BatchTurboQuantKVCache.merge(rows)
    k, v, q = made(1, batch=2, seed=7)
    mask = batch.make_mask(1)
    held = batch.update_and_fetch(k, v)
    assert batch.attend(q, 0.2, mask) is not None
    out = mx.fast.scaled_dot_product_attention(q, *held, scale=0.2, mask=mask)
    for i, row in enumerate(batch.rows):
        alone = plain(q[i : i + 1], *row.contents(), scale=0.2)
        assert mx.allclose(out[i : i + 1], alone, atol=3e-5)


def test_values_below_the_threshold_are_not_read() -> None:
    """Tokens of no weight with infinite scales: the answer is finite only if they are left out."""
    k, v, q = made(300)
    k[:, :, 4:164] = 0.01 * k[:, :, 4:164]
    q = 8 * q[:, :, :1]
    for threshold, finite in ((0.5, True), (0.0, False)):
        cache = TurboQuantKVCache(scheme=scheme((4, 3), value_threshold=threshold))
        cache.append(k, v)
        cache.store.settle()
        cache.store.values.scales[:, :, 1:4] = float("nan")  # type: ignore[union-attr]
        k1, v1, _ = made(1, seed=1)
        out = ask(cache, q, 3 * k1, v1)
        assert bool(mx.isfinite(out).all()) is finite
