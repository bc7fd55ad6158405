"""Decode steps of a batch: one encode and one attend for all rows, whatever each of them holds."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.cache import batch as batches
from tqgen_kernels.cache.attention import plain_attention
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.execution import kernels

SCHEME = Scheme(4, 4, residual=8)


def random(n: int, seed: int, heads: int = 2) -> mx.array:
    return mx.random.normal((1, heads, n, 64), key=mx.random.key(seed))


def caches(lengths: list[int], scheme: Scheme = SCHEME, window: int | None = None) -> list[Any]:
    """Caches that have seen prompts of these lengths."""
    made = []
    for seed, n in enumerate(lengths):
        cache = (
            TurboQuantKVCache(scheme=scheme)
            if window is None
            else RotatingTurboQuantKVCache(window, keep=4, scheme=scheme)
        )
        cache.update_and_fetch(random(n, seed), random(n, seed + 50))
        mx.eval(cache.state)
        made.append(cache)
    return made


def attended(cache: Any, q: mx.array, x: mx.array, **options: Any) -> mx.array:
    mask = cache.make_mask(q.shape[2])
    held = cache.update_and_fetch(x, x + 1)
    return mx.fast.scaled_dot_product_attention(q, *held, **{"scale": 0.2, "mask": mask} | options)


def steps(cache: Any, alone: list[Any], lengths: list[int]) -> Iterator[tuple[mx.array, mx.array]]:
    """What a batch answers at each step, and what its rows answer alone."""
    for step, n in enumerate(lengths):
        x = mx.concatenate([random(n, 100 * step + i) for i in range(len(alone))])
        q = mx.random.normal((len(alone), 4, n, 64), key=mx.random.key(step))
        rows = [attended(c, q[i : i + 1], x[i : i + 1]) for i, c in enumerate(alone)]
        yield attended(cache, q, x), mx.concatenate(rows)


@settings(max_examples=25, deadline=None)
@given(
    prompts=st.lists(st.integers(1, 150), min_size=2, max_size=4),
    lengths=st.lists(st.sampled_from([1, 1, 1, 2, 8]), min_size=1, max_size=40),
    window=st.sampled_from([None, 60, 90]),
    guard=st.sampled_from(["off", "on"]),
)
def test_each_row_gets_what_it_gets_alone(
    prompts: list[int], lengths: list[int], window: int | None, guard: Any
) -> None:
    scheme = Scheme(4, 4, residual=8, guard=guard)
    alone = caches(prompts, scheme, window)
    batch = type(alone[0]).merge(alone)
    for out, expected in steps(batch, alone, lengths):
        assert mx.allclose(out, expected, atol=2e-6)
    for i, cache in enumerate(alone):
        row = batch.extract(i)
        for mine, its in zip(row.keys_and_values(), cache.keys_and_values(), strict=True):
            assert mx.array_equal(mine, its)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each operation ran on kernels, which the emulator runs."""
    counts: Counter[str] = Counter()
    for name in ("encode", "dequantize", "attend"):
        ran = getattr(kernels, name)

        def counted(*args: Any, name: str = name, ran: Any = ran, **own: Any) -> Any:
            out = ran(*args, **own)
            counts[name if out is not None else f"{name} without a kernel"] += 1
            return out

        monkeypatch.setattr(kernels, name, counted)
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    kernels.forget()
    yield counts
    kernels.forget()


@pytest.mark.parametrize(("window", "sinks"), [(None, True), (90, False)])
def test_a_decode_step_of_a_batch_is_one_attend(
    window: int | None, sinks: bool, launches: Any
) -> None:
    options = {"scale": 0.2, "sinks": mx.random.normal((4,)) if sinks else None}
    alone = caches([140, 3, 75], window=window)
    batch = type(alone[0]).merge(alone)
    launches.clear()
    n = 6
    for step in range(n):
        x = mx.concatenate([random(1, 100 * step + i) for i in range(3)])
        q = mx.random.normal((3, 4, 1, 64), key=mx.random.key(step))
        twin = copy.deepcopy(batch)
        twin.append(x, x + 1)
        out = attended(batch, q, x, **options)
        contents = [row.store.contents() for row in twin.rows]
        expected = [plain_attention(q[i : i + 1], *c, **options) for i, c in enumerate(contents)]
        assert mx.allclose(out, mx.concatenate(expected), atol=2e-5)
    assert launches["attend"] == n
    assert launches["encode"] <= 2 * n
    assert not launches["attend without a kernel"]


@pytest.mark.parametrize("kind", ["boolean", "additive", "window", "leading zero"])
def test_any_mask_is_read_by_the_kernel(kind: str, launches: Any) -> None:
    keep = 0 if kind == "leading zero" else 4
    (cache,) = caches([150], Scheme(4, 4, residual=8, sinks=keep))
    for n in (1, 3):
        x, q = random(n, n), random(n, 7, heads=4)
        tokens = cache.offset + n
        if kind == "boolean":
            mask = mx.random.uniform(shape=(4, n, tokens), key=mx.random.key(n)) < 0.5
        elif kind == "additive":
            mask = mx.random.normal((1, 1, n, tokens), key=mx.random.key(n))
        elif kind == "window":
            mask = cache.make_mask(n, window_size=20)
        else:
            mask = mx.random.normal((tokens,), key=mx.random.key(n))
        held = cache.update_and_fetch(x, x + 1)
        launches.clear()
        out = mx.fast.scaled_dot_product_attention(q, *held, scale=0.2, mask=mask)
        assert launches == {"attend": 1}
        expected = plain_attention(q, *map(mx.array, held), scale=0.2, mask=mask)
        assert mx.allclose(out, expected, atol=2e-5)


def test_rows_that_do_not_fit_together_are_answered_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other bits, as a guard may choose them for one row."""
    alone = [*caches([140]), *caches([90], Scheme(8, 4, residual=8))]
    batch = TurboQuantKVCache.merge(alone)
    monkeypatch.setattr(batches, "attend_rows", None)
    for out, expected in steps(batch, alone, [1] * 5):
        assert mx.array_equal(out, expected)


def test_a_row_that_is_taken_out_does_not_hold_the_batchs_memory() -> None:
    alone = caches([500] * 6)
    batch = TurboQuantKVCache.merge(alone)
    for out, _ in steps(batch, alone, [1, 1]):
        mx.eval(out)
    row = batch.extract(3)
    mx.eval(row.state)
    arrays = [array for side in row.store.sides() for array in side.arrays]
    del alone, out
    batch = None
    mx.clear_cache()
    before = mx.get_active_memory()
    size = sum(array.nbytes for array in arrays)
    del arrays, row
    mx.clear_cache()
    assert before - mx.get_active_memory() <= size + 32768


def test_a_stack_does_not_change_what_a_copy_holds() -> None:
    alone = caches([140, 70])
    batch = TurboQuantKVCache.merge(alone)
    for out, _ in steps(batch, alone, [1] * 3):
        mx.eval(out)
    twin = copy.deepcopy(batch)
    before = [mx.array(side) for side in batch.keys_and_values()]
    for out, _ in steps(twin, alone, [1] * 40):
        mx.eval(out)
    assert all(map(mx.array_equal, batch.keys_and_values(), before))
