"""Which code is shown to attend and do nothing else with keys and values."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import base, gemma2, llama, qwen3
from mlx_lm.models.base import scaled_dot_product_attention

from tqgen_kernels import TurboQuantKVCache, remove_patch
from tqgen_kernels.cache import uses
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache

Attention = Callable[[Any, mx.array, mx.array, mx.array], Any]


def attends(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    if cache is not None:
        queries = queries + 0
        keys, values = cache.update_and_fetch(keys, values)
    else:
        keys = keys * 2  # cannot follow the update
    assert keys.shape[2] == values.shape[2]
    return scaled_dot_product_attention(queries, keys, values, cache=cache, scale=0.2, mask=None)


def attends_by_mlx(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    keys, values = cache.update_and_fetch(keys, values)
    return mx.fast.scaled_dot_product_attention(queries, keys, values, scale=0.2)


def casts(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> mx.array:
    keys, values = cache.update_and_fetch(keys, values)
    keys = keys.astype(mx.float32)
    return scaled_dot_product_attention(queries, keys, values, cache=cache, scale=0.2, mask=None)


def returns_them(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    keys, values = cache.update_and_fetch(keys, values)
    scaled_dot_product_attention(queries, keys, values, cache=cache, scale=0.2, mask=None)
    return keys, values


def in_a_loop(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    seen = []
    for _ in range(1):
        seen.append(keys.sum())
        keys, values = cache.update_and_fetch(keys, values)
    return keys, seen


def by_a_closure(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    def later() -> Any:
        return keys.sum()

    keys, values = cache.update_and_fetch(keys, values)
    return later()


def in_place(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    keys, values = cache.update_and_fetch(keys, values)
    keys += 1
    return scaled_dot_product_attention(queries, keys, values, cache=cache, scale=0.2, mask=None)


def as_one_name(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    both = cache.update_and_fetch(keys, values)
    return scaled_dot_product_attention(queries, *both, cache=cache, scale=0.2, mask=None)


def by_locals(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    keys, values = cache.update_and_fetch(keys, values)
    return locals()["keys"].sum()


def kept(cache: Any, queries: mx.array, keys: mx.array, values: mx.array) -> Any:
    keys, cache.kept = cache.update_and_fetch(keys, values)
    return scaled_dot_product_attention(
        queries, keys, cache.kept, cache=cache, scale=0.2, mask=None
    )


YES = [attends, attends_by_mlx]
NO = [casts, returns_them, in_a_loop, by_a_closure, in_place, as_one_name, by_locals, kept]


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """What was found of the functions that asked for keys and values."""
    answers: list[bool] = []
    only_attends = uses.only_attends

    def note(frame: Any) -> bool:
        answers.append(only_attends(frame))
        return answers[-1]

    for module in ("turboquant", "batch"):
        monkeypatch.setattr(sys.modules[f"tqgen_kernels.cache.{module}"], "only_attends", note)
    return answers


def call(attention: Attention, cache: Any, n: int, batch: int = 1) -> Any:
    k, v, q = mx.random.split(mx.random.key(n), 3)
    keys, values = (mx.random.normal((batch, 2, n, 64), key=key) for key in (k, v))
    return attention(cache, mx.random.normal((batch, 4, n, 64), key=q), keys, values)


@pytest.mark.parametrize("attention", YES + NO)
def test_only_code_that_can_do_nothing_else_gets_blank_handles(
    attention: Attention, blank: list[bool]
) -> None:
    outputs = []
    for cache in (TurboQuantKVCache(bits=4), TurboQuantKVCache(bits=4)):
        outputs.append([call(attention, cache, n) for n in (150, 1, 3, 9)])
        remove_patch()
    assert blank == [attention in YES] * 4
    with_hook, without = (tree_flatten(run) for run in outputs)
    for (_, a), (_, b) in zip(with_hook, without, strict=True):
        assert mx.allclose(a, b, atol=1e-5)


def test_a_batch_gets_blank_handles_too(blank: list[bool]) -> None:
    outputs = []
    for batch in (BatchTurboQuantKVCache([0, 0], bits=4), BatchTurboQuantKVCache([0, 0], bits=4)):
        outputs.append([call(attends, batch, n, 2) for n in (150, 1, 1)])
        remove_patch()
    assert blank == [True] * 3
    for with_hook, without in zip(*outputs, strict=True):
        assert mx.allclose(with_hook, without, atol=1e-5)


def test_the_attention_of_models_is_recognised() -> None:
    for module, expected in ((llama, True), (qwen3, True), (gemma2, False)):
        assert uses._proves(module.Attention.__call__.__code__) is expected
    assert uses._base_only_passes_on()


def test_a_function_of_the_same_name_is_not_trusted(
    blank: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(queries: mx.array, keys: mx.array, values: mx.array, **options: Any) -> mx.array:
        return keys.sum() + base.scaled_dot_product_attention(queries, keys, values, **options)

    monkeypatch.setitem(globals(), "scaled_dot_product_attention", other)
    out = call(attends, TurboQuantKVCache(bits=4), 5)
    assert blank == [False]
    assert not mx.isnan(out).any()


def test_blank_handles_of_an_earlier_step_are_an_error() -> None:
    cache = TurboQuantKVCache(bits=4)
    x = mx.ones((1, 2, 5, 64))

    def take(cache: Any, keys: mx.array, values: mx.array) -> None:
        keys, values = cache.update_and_fetch(keys, values)
        held.append(sys._getframe().f_locals["keys"])

    held: list[Any] = []
    take(cache, x, x)
    assert mx.isnan(held[0]).all()
    assert mx.array_equal(held[0].content(), x)
    take(cache, x, x)
    with pytest.raises(RuntimeError, match="earlier step"):
        mx.fast.scaled_dot_product_attention(x, held[0], held[1], scale=1.0)
