"""Batches: each row gets what it gets alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mlx_lm.generate import BatchGenerator, batch_generate, generate_step
from mlx_lm.models import cache as mlx_caches
from mlx_lm.models.cache import KVCache, RotatingKVCache

from tqgen_kernels import Scheme, TurboQuantKVCache, make_prompt_cache
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache

Tokens = Callable[..., mx.array]
LENGTHS = (5, 170, 40, 201, 1)


def plain(model: Any) -> list[Any]:
    return make_prompt_cache(model, bits=3)


def sliding(model: Any) -> list[Any]:
    return [RotatingTurboQuantKVCache(100, keep=4, bits=3) for _ in model.layers]


def mixed(model: Any) -> list[Any]:
    return [KVCache(), TurboQuantKVCache(bits=3)]


def alone(model: Any, prompt: list[int], n: int, cache: list[Any]) -> list[int]:
    steps = generate_step(
        mx.array(prompt), model, max_tokens=n, prompt_cache=cache, prefill_step_size=64
    )
    return [int(token) for token, _ in steps]


@pytest.mark.parametrize("make", [plain, sliding, mixed])
def test_mlx_lm_batches_give_each_prompt_its_own_answer(
    make: Callable[[Any], list[Any]], model: Any, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [tokens(n, seed=n)[0].tolist() for n in LENGTHS]
    expected = [alone(model, prompt, 40, make(model)) for prompt in prompts]
    ready = make(model)
    monkeypatch.setattr(model, "make_cache", lambda: copy.deepcopy(ready))
    generator = BatchGenerator(
        model,
        max_tokens=40,
        prefill_step_size=64,
        completion_batch_size=4,
        prefill_batch_size=3,
    )
    uids = generator.insert(prompts, [40] * len(prompts))
    answers: dict[int, list[int]] = {uid: [] for uid in uids}
    caches = {}
    while responses := generator.next_generated():
        for response in responses:
            answers[response.uid].append(response.token)
            if response.finish_reason:
                caches[response.uid] = response.prompt_cache
    assert [answers[uid] for uid in uids] == expected
    for uid, prompt in zip(uids, prompts, strict=True):
        assert [type(layer) for layer in caches[uid]] == [type(layer) for layer in ready]
        assert {layer.offset for layer in caches[uid]} == {len(prompt) + 40}


def test_batch_generate_takes_and_returns_caches_with_history(model: Any, tokens: Tokens) -> None:
    history = [tokens(n, seed=n)[0].tolist() for n in (130, 20)]
    caches = [plain(model) for _ in history]
    for prompt, cache in zip(history, caches, strict=True):
        model(mx.array([prompt]), cache=cache)
    before = [cache[0].offset for cache in caches]
    expected = [alone(model, [7, 8, 9], 12, copy.deepcopy(cache)) for cache in caches]

    class Tokenizer:
        eos_token_ids = frozenset[int]()

        def decode(self, ids: list[int]) -> str:
            return " ".join(map(str, ids))

    result = batch_generate(
        model,
        Tokenizer(),
        [[7, 8, 9]] * 2,
        prompt_caches=caches,
        max_tokens=12,
        return_prompt_caches=True,
    )
    assert [[int(t) for t in text.split()] for text in result.texts] == expected
    assert [cache[0].offset for cache in caches] == before
    assert all(type(cache[0]) is TurboQuantKVCache for cache in result.caches)


def random(n: int, seed: int = 0) -> mx.array:
    return mx.random.normal((1, 2, n, 64), key=mx.random.key(seed))


def rows_of(batch: Any) -> list[mx.array]:
    """The keys of each row as models see them, without padding."""
    keys, _ = batch.keys_and_values()
    padding = batch.left_padding.tolist()
    return [keys[i : i + 1, :, pad:] for i, pad in enumerate(padding)]


operations = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(1, 3)),
        st.tuples(st.just("prompt"), st.lists(st.integers(0, 70), min_size=4, max_size=4)),
        st.tuples(st.just("filter"), st.integers(1, 14)),
        st.tuples(st.just("extend"), st.integers(0, 90)),
        st.tuples(st.just("extract"), st.just(0)),
        st.tuples(st.just("trim"), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=7,
)


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(first=st.lists(st.integers(0, 150), min_size=2, max_size=3), steps=operations)
def test_rows_are_the_same_caches_as_alone(first: list[int], steps: list[tuple[str, Any]]) -> None:
    seeds = iter(range(10_000))

    def single(n: int) -> TurboQuantKVCache:
        cache = TurboQuantKVCache(scheme=Scheme(4, 4, residual=8))
        if n:
            x = random(n, next(seeds))
            cache.update_and_fetch(x, x)
            mx.eval(cache.state)
        return cache

    alone = [single(n) for n in first]
    batch = TurboQuantKVCache.merge(alone)
    alone = copy.deepcopy(alone)
    for step, n in steps:
        if step == "step":
            x = mx.concatenate([random(n, next(seeds)) for _ in alone])
            batch.update_and_fetch(x, x)
            for i, cache in enumerate(alone):
                cache.update_and_fetch(x[i : i + 1], x[i : i + 1])
        elif step == "prompt":
            lengths = (n * 4)[: len(alone)]
            most = max(max(lengths), 1)
            batch.prepare(lengths=lengths, right_padding=[most - length for length in lengths])
            x = mx.concatenate([random(most, next(seeds)) for _ in alone])
            mask = batch.make_mask(most)
            keys, _ = batch.update_and_fetch(x, x)
            assert mask.shape[-2:] == (most, keys.shape[2])
            batch.finalize()
            for i, (cache, length) in enumerate(zip(alone, lengths, strict=True)):
                if length:
                    cache.update_and_fetch(x[i : i + 1, :, :length], x[i : i + 1, :, :length])
        elif step == "filter":
            kept = [i for i in range(len(alone)) if n >> i & 1] or [0]
            batch.filter(mx.array(kept) if n % 2 else kept)
            alone = [alone[i] for i in kept]
        elif step == "extend" and len(alone) < 8:
            new = [single(n), single(0)]
            batch.extend(TurboQuantKVCache.merge(new))
            alone += new
        elif step == "extract":
            alone = [batch.extract(i) for i in range(len(alone))]
        elif step == "trim" and min(cache.offset for cache in alone) >= n:
            batch.trim(n)
            for cache in alone:
                cache.trim(n)
        mx.eval(batch.state, [cache.state for cache in alone])
    assert batch.offset.tolist() == [cache.offset for cache in alone]
    assert batch.nbytes == sum(array.nbytes for array in dict.values(batch.state))
    if not batch.empty():
        for row, cache in zip(rows_of(batch), alone, strict=True):
            assert row.shape[2] == cache.offset
            assert cache.empty() or mx.array_equal(row, cache.keys_and_values()[0])


def test_left_padded_input_leaves_its_padding_out() -> None:
    batch = BatchTurboQuantKVCache([2, 0, 5], bits=4)
    assert batch.offset.tolist() == [-2, 0, -5]
    x = mx.concatenate([random(4, seed=i) for i in range(3)])
    mask = batch.make_mask(4)
    keys, _ = batch.update_and_fetch(x, x)
    plain = mlx_caches.BatchKVCache([2, 0, 5])
    assert mx.array_equal(mask, plain.make_mask(4))
    plain.update_and_fetch(x, x)
    assert batch.offset.tolist() == plain.offset.tolist() == [2, 4, -1]
    assert mx.array_equal(batch.left_padding, plain.left_padding)
    assert mx.array_equal(batch.make_mask(1), plain.make_mask(1))
    assert mx.array_equal(batch.make_mask(2, window_size=2), plain.make_mask(2, window_size=2))
    assert mx.array_equal(keys[0, :, 2:], x[0, :, 2:])
    assert mx.array_equal(keys[1], x[1])
    assert mx.array_equal(keys[2], mx.zeros_like(x[2]))
    assert batch.keys.shape == batch.values.shape == (3, 2, 4, 64)
    assert mx.array_equal(batch.keys[..., 2:3, :], keys[:, :, 2:3])
    batch.keys = mx.depends(batch.keys, mx.ones((2,)))
    assert mx.array_equal(batch.keys_and_values()[0], keys)
    batch.filter([0, 1])
    plain.filter([0, 1])
    assert mx.array_equal(batch.left_padding, plain.left_padding)


def test_an_offset_that_a_model_holds_does_not_change() -> None:
    batch = BatchTurboQuantKVCache([0], bits=4)
    held = batch.offset
    batch.update_and_fetch(random(4), random(4))
    assert held.tolist() == [0]
    assert batch.offset.tolist() == [4]


def test_a_batch_does_not_write_into_the_caches_it_was_merged_from() -> None:
    caches = [TurboQuantKVCache(bits=4) for _ in range(2)]
    for i, cache in enumerate(caches):
        cache.update_and_fetch(random(140 + i, i), random(140 + i, i))
        mx.eval(cache.state)
    before = [mx.array(cache.keys_and_values()[0]) for cache in caches]
    batch = TurboQuantKVCache.merge(caches)
    taken = batch.extract(1)
    for i in range(40):
        x = mx.concatenate([random(1, i)] * 2)
        batch.update_and_fetch(x, x)
        mx.eval(batch.state)
    assert all(
        mx.array_equal(c.keys_and_values()[0], b) for c, b in zip(caches, before, strict=True)
    )
    assert mx.array_equal(taken.keys_and_values()[0], before[1])


def test_a_batch_keeps_a_head_dim_without_a_rotation_exact_where_it_may() -> None:
    x = mx.random.normal((2, 1, 40, 24), key=mx.random.key(7))
    with pytest.raises(ValueError, match="head_dim 24 is not supported"):
        BatchTurboQuantKVCache([0, 0], bits=4).update_and_fetch(x, x)
    for batch in (
        BatchTurboQuantKVCache([0, 0], bits=4, any_dim=True),
        BatchRotatingTurboQuantKVCache(64, [0, 0], bits=4, any_dim=True),
    ):
        keys, values = batch.update_and_fetch(x, x)
        assert mx.array_equal(keys, x)
        assert mx.array_equal(values, x)


def test_rows_of_another_number_and_late_left_padding_are_refused() -> None:
    batch = BatchTurboQuantKVCache([0, 0], bits=4)
    with pytest.raises(ValueError, match="2 rows, and got 1"):
        batch.update_and_fetch(random(3), random(3))
    x = mx.concatenate([random(3)] * 2)
    batch.update_and_fetch(x, x)
    with pytest.raises(ValueError, match="Left padding"):
        batch.prepare(left_padding=[1, 1])
    with pytest.raises(ValueError, match="lengths="):
        batch.prepare(right_padding=[1, 0])


def test_windows_of_different_sizes_do_not_merge() -> None:
    caches = [RotatingTurboQuantKVCache(8, bits=4), RotatingTurboQuantKVCache(9, bits=4)]
    with pytest.raises(ValueError, match="same max_size"):
        RotatingTurboQuantKVCache.merge(caches)


def test_empty_caches_merge_and_extend() -> None:
    for cls, own in (
        (TurboQuantKVCache, {}),
        (RotatingTurboQuantKVCache, {"max_size": 64}),
    ):
        full, empty = cls(bits=4, **own), cls(bits=4, **own)
        full.update_and_fetch(random(5).astype(mx.bfloat16), random(5).astype(mx.bfloat16))
        for first, second in ((full, empty), (empty, full)):
            batch = cls.merge([first])
            batch.extend(cls.merge([second, second]))
            assert batch.offset.shape == (3,)
            keys, _ = batch.keys_and_values()
            assert keys.shape == (3, 2, 5, 64)
            assert keys.dtype == mx.bfloat16
            batch.prepare(lengths=[9, 4, 12], right_padding=[3, 8, 0])
            x = mx.concatenate([random(12)] * 3).astype(mx.bfloat16)
            batch.update_and_fetch(x, x)
            batch.finalize()
        assert cls.merge([empty, empty]).empty()


def attention(q: mx.array, cache: Any, x: mx.array) -> mx.array:
    mask = cache.make_mask(x.shape[2])
    held = cache.update_and_fetch(x, x)
    mx.eval(cache.state)
    return mx.fast.scaled_dot_product_attention(q, *held, scale=0.2, mask=mask)


@pytest.mark.parametrize("keep", [0, 4])
def test_a_sliding_window_sees_what_mlx_lms_sees(keep: int) -> None:
    ours = RotatingTurboQuantKVCache(40, keep, scheme=Scheme(None, None))
    theirs = RotatingKVCache(40, keep)
    for i, n in enumerate((30, 1, 1, 20, 1, 2, 8, 70, *[1] * 50, 3, 1, 35, 41, 1)):
        x, q = random(n, i), mx.random.normal((1, 4, n, 64), key=mx.random.key(99 + i))
        out, expected = attention(q, ours, x), attention(q, theirs, x)
        assert mx.allclose(out, expected, atol=1e-5)
        assert ours.offset == theirs.offset
        assert ours.size() == theirs.size()
        assert ours.is_trimmable() == theirs.is_trimmable()


def test_a_sliding_window_takes_no_more_room_than_it_needs() -> None:
    cache = RotatingTurboQuantKVCache(512, bits=4, scheme=None)
    for i in range(8):
        cache.update_and_fetch(random(400, i), random(400, i))
        mx.eval(cache.state)
    x = random(1)
    cache.update_and_fetch(x, x)
    assert cache.keys_and_values()[0].shape[2] == 512
    assert cache.nbytes < 2 * 2 * 64 * 4 * 512 / 3


def test_windows_that_cannot_be_are_refused() -> None:
    for size, keep in ((0, 0), (4, 4), (8, -1), (2.5, 0)):
        with pytest.raises(ValueError, match="max_size"):
            RotatingTurboQuantKVCache(size, keep, bits=4)  # type: ignore[arg-type]


def test_a_batch_of_windows_sees_what_each_window_sees() -> None:
    def single() -> RotatingTurboQuantKVCache:
        return RotatingTurboQuantKVCache(40, keep=2, bits=4)

    alone = [single() for _ in range(3)]
    batch = BatchRotatingTurboQuantKVCache.merge([single() for _ in range(3)])
    lengths = [50, 7, 23]
    q = mx.random.normal((3, 4, 50, 64), key=mx.random.key(1))
    x = mx.concatenate([random(50, seed) for seed in range(3)])
    batch.prepare(lengths=lengths, right_padding=[50 - n for n in lengths])
    out = attention(q, batch, x)
    batch.finalize()
    for i, n in enumerate(lengths):
        expected = attention(q[i : i + 1, :, :n], alone[i], x[i : i + 1, :, :n])
        assert mx.allclose(out[i : i + 1, :, :n], expected, atol=1e-5)
    for step in range(60):
        n = 1 + 2 * (step % 5 == 4)
        q = mx.random.normal((3, 4, n, 64), key=mx.random.key(step))
        x = mx.concatenate([random(n, 3 * step + i) for i in range(3)])
        out = attention(q, batch, x)
        for i, cache in enumerate(alone):
            expected = attention(q[i : i + 1], cache, x[i : i + 1])
            assert mx.allclose(out[i : i + 1], expected, atol=1e-5)
