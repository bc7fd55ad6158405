"""Which of a model's caches are compressed, and models that make their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step
from mlx_lm.models import cache as mlx_caches
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    RotatingKVCache,
    load_prompt_cache,
    save_prompt_cache,
)

from tqgen_kernels import Scheme, TurboQuantKVCache, make_adaptive_cache, make_prompt_cache
from tqgen_kernels.cache.prompt import attach
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.quant.layered import LayeredScheme, write_scheme

Tokens = Callable[..., mx.array]


class Model:
    """What make_prompt_cache asks of a model."""

    def __init__(self, make_cache: Any = None, layers: int = 3, model_type: str = "some") -> None:
        self.layers = [None] * layers
        self.model_type = model_type
        if make_cache is not None:
            self.make_cache = make_cache


def kinds(caches: list[Any]) -> list[Any]:
    return [
        [type(child) for child in c.caches] if type(c) is CacheList else type(c) for c in caches
    ]


def test_only_plain_key_value_caches_are_replaced() -> None:
    def make() -> list[Any]:
        return [
            KVCache(),
            RotatingKVCache(64),
            ArraysCache(2),
            ChunkedKVCache(64),
            CacheList(ArraysCache(2), KVCache()),
            CacheList(KVCache(), KVCache()),
        ]

    tq = TurboQuantKVCache
    expected = [tq, RotatingKVCache, ArraysCache, ChunkedKVCache, [ArraysCache, tq], [tq, tq]]
    assert kinds(make_prompt_cache(Model(make))) == expected
    # mlx-lm's rule: a model that makes its caches itself does not hear of max_kv_size.
    assert kinds(make_prompt_cache(Model(make), 100)) == expected


def test_the_index_of_sparse_attention_stays() -> None:
    model = Model(lambda: [CacheList(KVCache(), KVCache())], model_type="deepseek_v32")
    assert kinds(make_prompt_cache(model)) == [[TurboQuantKVCache, KVCache]]


def test_a_model_that_makes_no_caches_gets_one_a_layer() -> None:
    made = make_prompt_cache(Model(), scheme="tiny")
    assert kinds(made) == [TurboQuantKVCache] * 3
    assert {layer.scheme for layer in made} == {Scheme(2, 2)}
    made = make_prompt_cache(Model(), 100, bits=3)
    assert kinds(made) == [RotatingTurboQuantKVCache] * 3
    assert {(layer.max_size, layer.keep) for layer in made} == {(100, 4)}


def test_first_and_last_layers_may_stay() -> None:
    made = make_prompt_cache(Model(layers=5), fp16_layers=1)
    assert kinds(made) == [KVCache] + [TurboQuantKVCache] * 3 + [KVCache]
    assert kinds(make_prompt_cache(Model(layers=2), fp16_layers=1)) == [KVCache] * 2
    with pytest.raises(ValueError, match="fp16_layers -1"):
        make_prompt_cache(Model(), fp16_layers=-1)


def test_each_layer_may_have_its_own_scheme(tmp_path: Path) -> None:
    exact = Scheme(None, None)
    layered = LayeredScheme((Scheme(4, 2), exact, Scheme(2, 2, residual=32)))
    path = tmp_path / "mine.json"
    write_scheme(path, layered, {})
    model = Model()
    for made in (
        make_prompt_cache(model, scheme=layered),
        make_prompt_cache(model, scheme=path),
        make_adaptive_cache(3, scheme=str(path), fp16_layers=0),
    ):
        assert kinds(made) == [TurboQuantKVCache, KVCache, TurboQuantKVCache]
        assert [made[0].scheme, made[2].scheme] == [layered.layers[0], layered.layers[2]]
        assert made[2].store.label == "Layer 2"
    attach(model, scheme=path)
    path.unlink()
    assert kinds(model.make_cache()) == [TurboQuantKVCache, KVCache, TurboQuantKVCache]

    def mixed() -> list[Any]:
        return [ArraysCache(2), *(KVCache() for _ in range(3)), RotatingKVCache(64)]

    made = make_prompt_cache(Model(mixed), scheme=layered, fp16_layers=1)
    assert kinds(made) == [ArraysCache, KVCache, KVCache, KVCache, RotatingKVCache]
    with pytest.raises(ValueError, match="for 3 layers, and the model has 4"):
        make_prompt_cache(Model(layers=4), scheme=layered)


@pytest.mark.parametrize("make", [lambda: [ArraysCache(2)] * 2, list])
def test_a_model_without_attention_layers_is_an_error(make: Callable[[], list[Any]]) -> None:
    with pytest.raises(ValueError, match=r"some.*no attention layer.*make_prompt_cache"):
        make_prompt_cache(Model(make, layers=0))


def test_lists_of_caches_are_saved_and_loaded(tmp_path: Path) -> None:
    caches = [CacheList(ArraysCache(1), TurboQuantKVCache(bits=4))]
    x = mx.random.normal((1, 2, 150, 64))
    caches[0][0][0] = mx.ones((1, 3))
    caches[0][1].update_and_fetch(x, x)
    path = str(tmp_path / "prompt.safetensors")
    save_prompt_cache(path, caches)
    loaded = load_prompt_cache(path)
    assert kinds(loaded) == kinds(caches)
    pairs = zip(loaded[0][1].keys_and_values(), caches[0][1].keys_and_values(), strict=True)
    assert all(mx.array_equal(a, b) for a, b in pairs)
    assert 0 < loaded[0].nbytes <= caches[0].nbytes
    assert loaded[0][1].trim(5) == 5
    assert copy.deepcopy(loaded)[0].size() == 145


def test_an_attached_model_makes_compressed_caches(
    make_llama: Callable[..., Any], tokens: Tokens
) -> None:
    model = make_llama(num_hidden_layers=3)
    expected = [
        int(token)
        for token, _ in generate_step(
            tokens(150)[0], model, max_tokens=20, prompt_cache=make_prompt_cache(model, bits=3)
        )
    ]
    attach(model, bits=3)
    assert kinds(mlx_caches.make_prompt_cache(model)) == [TurboQuantKVCache] * 3
    steps = generate_step(tokens(150)[0], model, max_tokens=20)
    assert [int(token) for token, _ in steps] == expected
    # A second one replaces the first, and make_prompt_cache still knows the model's own.
    attach(model, scheme="tiny", fp16_layers=1)
    made = mlx_caches.make_prompt_cache(model)
    assert kinds(made) == [KVCache, TurboQuantKVCache, KVCache]
    assert made[1].scheme == Scheme(2, 2)
    assert kinds(make_prompt_cache(model, bits=8)) == [TurboQuantKVCache] * 3
    assert copy.deepcopy(model).make_cache()


def test_attach_refuses_at_once_what_cannot_be() -> None:
    model = Model(lambda: [ArraysCache(1)])
    own = model.make_cache
    with pytest.raises(ValueError, match="no attention layer"):
        attach(model)
    assert model.make_cache is own
    with pytest.raises(ValueError, match="unknown"):
        attach(Model(), scheme="none such")


def test_an_attached_model_may_be_given_a_window() -> None:
    model = Model()
    attach(model, 100, bits=3)
    assert kinds(mlx_caches.make_prompt_cache(model)) == [RotatingTurboQuantKVCache] * 3
