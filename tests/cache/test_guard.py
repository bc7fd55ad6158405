"""A layer that its scheme would break keeps its keys in more bits, and says so."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, load_prompt_cache, save_prompt_cache

from tqgen_kernels import Scheme, TurboQuantKVCache, make_prompt_cache, remove_patch
from tqgen_kernels.cache import guard
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.exact_side import ExactSide
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.cache.side import PackedSide

BROKEN, SOUND = 1, 0  # layers of the stressed model

Tokens = Callable[..., mx.array]


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    guard._said.clear()


@pytest.fixture(scope="module")
def stressed(make_llama: Callable[..., Any]) -> Any:
    """Layer BROKEN adds a vector of length 750, in pairs that RoPE turns fast, to every key: a
    constant before RoPE that no centre can hold."""
    model = make_llama(attention_bias=True)
    for layer in model.layers:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            bias = getattr(layer.self_attn, name)
            bias.bias = mx.zeros_like(bias.bias)
    bias = np.zeros((2, 64), np.float32)
    bias[:, 2:12] = np.random.default_rng(5).normal(size=(2, 10))
    bias *= 750 / np.linalg.norm(bias, axis=1, keepdims=True)
    model.layers[BROKEN].self_attn.k_proj.bias = mx.array(bias.reshape(-1))
    return model


def run(model: Any, cache: Any, tokens: mx.array, chunk: int = 150, tail: int = 8) -> mx.array:
    """Log-probabilities of the last `tail` tokens, which go in one at a time."""
    end = tokens.shape[1] - tail
    for start in range(0, end, chunk):
        model(tokens[:, start : min(start + chunk, end)], cache=cache)
        mx.eval([layer.state for layer in cache])
    steps = [model(tokens[:, i : i + 1], cache=cache) for i in range(end, end + tail)]
    logits = mx.concatenate(steps, axis=1)
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def divergence(model: Any, tokens: mx.array, cache: Any, **sizes: int) -> float:
    """KL from the model with its own cache, nats."""
    exact = run(model, [KVCache() for _ in model.layers], tokens, **sizes)
    found = run(model, cache, tokens, **sizes)
    return float(mx.mean(mx.sum(mx.exp(exact) * (exact - found), axis=-1)).item())


def bits(cache: Any) -> list[int | None]:
    return [layer.scheme.key_bits for layer in cache]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == guard.__name__]


def test_a_broken_layer_is_mended_and_named(
    stressed: Any, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    text, made = tokens(320), {}
    costs = {}
    for mode in ("off", "warn", "on"):
        made[mode] = make_prompt_cache(stressed, key_bits=4, value_bits=8, guard=mode)
        costs[mode] = divergence(stressed, text, made[mode])
        said = warnings(caplog)
        caplog.clear()
        assert len(said) == (mode != "off")
        assert all("Layer 1: 4-bit keys" in line for line in said)
        assert all(("take 8 bits" in line) is (mode == "on") for line in said)
    assert costs["off"] == costs["warn"] > 20 * costs["on"]
    assert bits(made["warn"]) == [4, 4]
    assert bits(made["on"]) == [4, 8]


def test_a_layer_is_named_once_a_process(
    stressed: Any, tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (1, 2, 3):
        run(stressed, make_prompt_cache(stressed), tokens(150, seed=seed))
    assert len(warnings(caplog)) == 1


def test_keys_stay_exact_where_8_bits_are_too_few(
    make_llama: Callable[..., Any],
    stressed: Any,
    tokens: Tokens,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worse = copy.deepcopy(stressed)
    bias = worse.layers[BROKEN].self_attn.k_proj
    bias.bias = 100 * bias.bias
    cache = make_prompt_cache(worse, key_bits=4, value_bits=8)
    assert divergence(worse, tokens(320), cache) < 1e-4
    assert bits(cache) == [4, None]
    assert type(cache[BROKEN].store.keys) is ExactSide
    assert type(cache[BROKEN].store.values) is PackedSide
    assert "keys stay exact" in warnings(caplog)[0]


@pytest.mark.parametrize("chunk", [1, 7, 8, 9, 50, 400])
def test_however_the_prompt_comes(stressed: Any, tokens: Tokens, chunk: int) -> None:
    """The first tiles may leave the window in a chat's 100th token or in a chunk of 2048."""
    text = tokens(160)
    cache = make_prompt_cache(stressed, key_bits=4, value_bits=8)
    assert divergence(stressed, text, cache, chunk=chunk) < 0.02
    assert bits(cache) == [4, 8]


def test_in_the_storage_of_the_matrix_unit(
    stressed: Any, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQGEN_STORAGE", "fragment")
    cache = make_prompt_cache(stressed, key_bits=4, value_bits=4)
    assert divergence(stressed, tokens(320), cache) < 0.05
    assert bits(cache) == [4, 8]
    assert cache[SOUND].store.storage == "fragment"
    for side in cache[BROKEN].store.sides():
        assert side.scheme.layout.endswith("fragment") is (
            cache[BROKEN].store.storage == "fragment"
        )


def test_where_it_finds_nothing_nothing_changes(model: Any, tokens: Tokens) -> None:
    made = [make_prompt_cache(model, scheme="tiny", guard=mode) for mode in ("on", "off")]
    one, two = (run(model, cache, tokens(250), chunk=90) for cache in made)
    assert mx.array_equal(one, two)
    assert bits(made[0]) == [2, 2]


def test_files_and_copies(stressed: Any, tokens: Tokens, tmp_path: Path) -> None:
    text = tokens(320)
    cache = make_prompt_cache(stressed)
    run(stressed, cache, text[:, :200])
    short = make_prompt_cache(stressed, guard="warn")
    run(stressed, short, text[:, :30])
    save_prompt_cache(str(tmp_path / "a.safetensors"), cache)
    save_prompt_cache(str(tmp_path / "b.safetensors"), short)
    loaded = load_prompt_cache(str(tmp_path / "a.safetensors"))
    assert bits(loaded) == [4, 8]
    assert [layer.scheme for layer in loaded] == [layer.scheme for layer in cache]
    assert {x.scheme.guard for x in load_prompt_cache(str(tmp_path / "b.safetensors"))} == {"warn"}
    twin = copy.deepcopy(cache)
    outs = [run(stressed, each, text[:, 200:]) for each in (cache, loaded, twin)]
    assert mx.array_equal(outs[0], outs[1])
    assert mx.array_equal(outs[0], outs[2])


def test_a_short_prompt_is_judged_after_it_was_loaded(
    stressed: Any, tokens: Tokens, tmp_path: Path
) -> None:
    cache = make_prompt_cache(stressed)
    run(stressed, cache, tokens(30))
    save_prompt_cache(str(tmp_path / "a.safetensors"), cache)
    loaded = load_prompt_cache(str(tmp_path / "a.safetensors"))
    assert bits(loaded) == [4, 4]
    run(stressed, loaded, tokens(200))
    assert bits(loaded) == [4, 8]


def test_trimming_to_nothing_and_back(stressed: Any, tokens: Tokens) -> None:
    cache = make_prompt_cache(stressed, key_bits=4, value_bits=8)
    run(stressed, cache, tokens(200))
    for layer in cache:
        layer.trim(180)
        assert layer.store.unproved
    run(stressed, cache, tokens(200, seed=2))
    assert bits(cache) == [4, 8]
    fresh = make_prompt_cache(stressed, key_bits=4, value_bits=8)
    run(stressed, fresh, tokens(200)[:, :20])
    assert bits(fresh) == [4, 4]


def test_a_batch_mixes_guarded_and_unguarded_rows(stressed: Any, tokens: Tokens) -> None:
    """A row of a batch packs and attends as it would alone, whatever its scheme."""
    texts = [tokens(n, seed=n) for n in (200, 170, 40)]
    alone = [make_prompt_cache(stressed, guard=mode) for mode in ("on", "off", "on")]
    for cache, text in zip(alone, texts, strict=True):
        run(stressed, cache, text)
    assert [bits(cache) for cache in alone] == [[4, 8], [4, 4], [4, 4]]
    rows = zip(*alone, strict=True)
    batch: Any = [TurboQuantKVCache.merge(layer) for layer in rows]
    more = mx.concatenate([tokens(90, seed=7)] * 3)
    together = [run(stressed, batch, more, chunk=40, tail=20)]
    apart = [run(stressed, cache, more[:1], chunk=40, tail=20) for cache in alone]
    assert mx.allclose(together[0], mx.concatenate(apart), atol=2e-4)
    for i, cache in enumerate(alone):
        back = [layer.extract(i) for layer in batch]
        assert bits(back) == bits(cache)
    assert [row.scheme.key_bits for row in batch[BROKEN].rows] == [8, 4, 8]


def test_each_row_of_a_padded_batch_is_judged_by_its_own_queries(
    stressed: Any, tokens: Tokens
) -> None:
    lengths, width = [230, 30, 150], 230
    batch: Any = [BatchTurboQuantKVCache([0, 0, 0]) for _ in stressed.layers]
    for layer in batch:
        layer.prepare(lengths=lengths, right_padding=[width - n for n in lengths])
    text = tokens(width, batch=3)
    for start in (0, 120):
        stressed(text[:, start : min(start + 120, width)], cache=batch)
        mx.eval([layer.state for layer in batch])
    for layer in batch:
        layer.finalize()
    assert [row.scheme.key_bits for row in batch[BROKEN].rows] == [8, 4, 8]
    assert [row.scheme.key_bits for row in batch[SOUND].rows] == [4, 4, 4]


def test_a_sliding_window_is_judged_before_it_drops_anything(stressed: Any, tokens: Tokens) -> None:
    cache: Any = [RotatingTurboQuantKVCache(120, 4) for _ in stressed.layers]
    run(stressed, cache, tokens(400), chunk=300)
    assert bits(cache) == [4, 8]


def test_without_the_hook_there_are_no_queries_and_no_verdict(
    stressed: Any, tokens: Tokens
) -> None:
    remove_patch()
    cache = make_prompt_cache(stressed)
    run(stressed, cache, tokens(200))
    assert bits(cache) == [4, 4]


def random(*shape: int, seed: int = 0) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def test_the_error_is_that_of_attention() -> None:
    keys, q = random(2, 2, 64, 32), random(2, 4, 3, 32, seed=1)
    queries = guard.newest(q, 0.3)
    assert guard.key_error(queries, keys, keys + random(1, 2, 1, 32, seed=2)).item() < 1e-4
    noisy = keys + mx.array([0.0, 1.0])[None, :, None, None] * random(2, 2, 64, 32, seed=3)
    found = guard.key_error(queries, keys, noisy).item()
    weights = [
        np.array(mx.softmax(0.3 * q[:, 2:] @ k[:, 1:].swapaxes(-1, -2), axis=-1), np.float64)
        for k in (keys, noisy)
    ]
    kl = (weights[0] * np.log(weights[0] / weights[1])).sum(-1)  # heads 2 and 3 share key head 1
    assert found == pytest.approx(kl.mean((1, 2)).max(), rel=1e-3)


@pytest.mark.parametrize(
    ("dtype", "size"), [(mx.bfloat16, 1e6), (mx.float32, 1e6), (mx.float16, 16400)]
)
@pytest.mark.parametrize("chunk", [1, 150])
def test_vectors_that_float16_cannot_carry_stay_exact(
    dtype: mx.Dtype, size: float, chunk: int
) -> None:
    """Scales are float16, and in a float16 model what is dequantised."""
    keys, values = (size * random(1, 2, 150, 64, seed=i).astype(dtype) for i in (0, 1))
    cache = TurboQuantKVCache()
    for start in range(0, 150, chunk):
        part = (slice(None), slice(None), slice(start, start + chunk))
        cache.append(keys[part], values[part])
        cache.notice(random(1, 4, chunk, 64).astype(dtype), 0.1)
    cache.store.settle()
    assert (cache.scheme.key_bits, cache.scheme.value_bits) == (None, None)
    for held, given in zip(cache.contents(), (keys, values), strict=True):
        assert mx.array_equal(held, given)


def test_a_guard_is_a_field_of_the_scheme_or_a_name_of_its_own(model: Any) -> None:
    assert Scheme().guard == "on"
    assert TurboQuantKVCache(scheme="tiny", guard="warn").scheme == Scheme(2, 2, guard="warn")
    assert {x.scheme.guard for x in make_prompt_cache(model, guard="off")} == {"off"}
    with pytest.raises(ValueError, match="guard 'maybe'"):
        make_prompt_cache(model, guard="maybe")  # type: ignore[arg-type]
