"""The attention hook: the packed path, the dequantised one, and both alike."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest

from tqgen_kernels import Scheme, TurboQuantKVCache, apply_patch, remove_patch
from tqgen_kernels.cache import attention, by_heads, turboquant
from tqgen_kernels.cache.handles import Handle
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.execution import operations

plain = attention.plain_attention


@pytest.fixture
def packed_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the queries that went to operations.attend."""
    calls: list[int] = []

    def attend(q: mx.array, store: Any, **options: Any) -> mx.array:
        calls.append(q.shape[2])
        return operations.attend(q, store, **options)

    monkeypatch.setattr(turboquant, "attend", attend)
    return calls


def step(cache: TurboQuantKVCache, n: int, key_dim: int = 64, seed: int = 0) -> Any:
    """Handles after n more tokens, and queries for them."""
    k, v, q = mx.random.split(mx.random.key(seed), 3)
    held = cache.update_and_fetch(
        mx.random.normal((1, 2, n, key_dim), key=k), mx.random.normal((1, 2, n, 64), key=v)
    )
    return mx.random.normal((1, 6, n, key_dim), key=q), *held


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("key_dim", [64, 96])
def test_the_packed_path_equals_attention_over_the_content(
    n: int, key_dim: int, packed_calls: list[int]
) -> None:
    cache = TurboQuantKVCache(bits=3)
    step(cache, 200, key_dim)
    q, k, v = step(cache, n, key_dim, seed=1)
    mask = None if n == 1 else "causal"
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=mask)
    assert packed_calls == [n]
    content = mx.array(k), mx.array(v)
    assert mx.allclose(out, plain(q, *content, scale=0.2, mask=mask), atol=2e-5)


@pytest.mark.parametrize(
    "case",
    ["long", "bool mask", "additive mask", "all see all", "keys as values", "exact keys",
     "short", "chunk at hand"],
)  # fmt: skip
def test_what_the_packed_path_cannot_do_is_done_on_the_content(
    case: str, packed_calls: list[int]
) -> None:
    cache = TurboQuantKVCache(value_bits=3) if case == "exact keys" else TurboQuantKVCache(bits=3)
    step(cache, 20 if case == "short" else 200)
    n = {"long": 9, "additive mask": 1, "short": 1}.get(case, 3)
    if case == "chunk at hand":
        q, k, v = step(cache, 40, seed=1)
        q, mask = q[:, :, :1], None
    else:
        q, k, v = step(cache, n, seed=1)
        mask = "causal" if n > 1 else None
    tokens = k.shape[2]
    if case == "bool mask":
        mask = mx.arange(tokens) % 3 == 0
    elif case == "additive mask":
        mask = mx.random.normal((1, 6, 1, tokens))
    elif case == "all see all":
        mask = None
    elif case == "keys as values":
        v = k
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=mask)
    content = mx.array(k), mx.array(v)
    expected = plain(q, *content, scale=0.2, mask=mask)
    assert packed_calls == []
    assert mx.array_equal(out, expected)


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("size", [-30.0, 0.0, 30.0])
def test_attention_sinks_take_their_share(n: int, size: float, packed_calls: list[int]) -> None:
    cache = TurboQuantKVCache(bits=3)
    step(cache, 200)
    q, k, v = step(cache, n, seed=1)
    mask = None if n == 1 else "causal"
    sinks = mx.random.normal((6,)) + size
    options = {"scale": 0.2, "mask": mask, "sinks": sinks}
    out = mx.fast.scaled_dot_product_attention(q, k, v, **options)
    assert packed_calls == [n]
    assert mx.allclose(out, plain(q, mx.array(k), mx.array(v), **options), atol=2e-5)


@pytest.mark.parametrize("keep", [0, 4])
def test_a_sliding_window_is_read_packed_wherever_it_begins(
    keep: int, packed_calls: list[int]
) -> None:
    cache = RotatingTurboQuantKVCache(150, keep, scheme=Scheme(4, 3, residual=8))
    step(cache, 200)
    for i in range(80):
        q, k, v = step(cache, 1, seed=i)
        out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask=cache.make_mask(1))
        assert mx.allclose(out, plain(q, mx.array(k), mx.array(v), scale=0.2), atol=2e-5)
        assert k.shape[2] == 150
    assert packed_calls == [1] * 80


def test_an_old_handle_is_just_its_content(packed_calls: list[int]) -> None:
    cache = TurboQuantKVCache(bits=3)
    step(cache, 200)
    q, k, v = step(cache, 1, seed=1)
    content = mx.array(k), mx.array(v)
    mx.eval(content)
    step(cache, 1, seed=2)
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2)
    assert packed_calls == []
    assert mx.allclose(out, plain(q, *content, scale=0.2))


def test_handles_of_two_caches_do_not_mix(packed_calls: list[int]) -> None:
    a, b = TurboQuantKVCache(bits=3), TurboQuantKVCache(bits=3)
    for cache in (a, b):
        step(cache, 200)
    q, k, _ = step(a, 1, seed=1)
    _, _, v = step(b, 1, seed=2)
    out = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2)
    assert packed_calls == []
    assert mx.allclose(out, plain(q, mx.array(k), mx.array(v), scale=0.2))


def test_operations_on_a_handle_give_plain_arrays() -> None:
    cache = TurboQuantKVCache(bits=3)
    _, k, _ = step(cache, 200)
    assert type(k) is Handle
    for result in (k + 1, k[..., :2], k.astype(mx.float16), k.swapaxes(-1, -2), mx.repeat(k, 2, 1)):
        assert type(result) is mx.array


def test_the_hook_goes_on_and_off_in_any_order() -> None:
    remove_patch()
    remove_patch()
    assert mx.fast.scaled_dot_product_attention is plain
    apply_patch()
    apply_patch()
    assert mx.fast.scaled_dot_product_attention is attention.scaled_dot_product_attention
    remove_patch()
    assert mx.fast.scaled_dot_product_attention is plain


def test_another_hook_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> None: ...

    monkeypatch.setattr(mx.fast, "scaled_dot_product_attention", other)
    remove_patch()
    assert mx.fast.scaled_dot_product_attention is other


def test_plain_arrays_pass_through_the_hook() -> None:
    q = mx.random.normal((1, 4, 3, 64))
    k = mx.random.normal((1, 2, 9, 64))
    for mask in (None, "causal", mx.arange(9) < 5):
        out = mx.fast.scaled_dot_product_attention(q, k, k, scale=0.3, mask=mask, stream=mx.cpu)
        assert mx.array_equal(out, plain(q, k, k, scale=0.3, mask=mask))


@pytest.mark.parametrize("case", ["causal", "bool mask", "mask by head", "sinks", "exact keys"])
@pytest.mark.parametrize("group", [1, 2, 4])
def test_a_few_heads_at_a_time_are_attention_over_all(
    case: str, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = TurboQuantKVCache(value_bits=3) if case == "exact keys" else TurboQuantKVCache(bits=3)
    keys = mx.random.normal((1, 4, 300, 64), key=mx.random.key(0))
    cache.update_and_fetch(keys, keys + 1)
    k, v = cache.update_and_fetch(keys[:, :, :40], keys[:, :, :40])
    q = mx.random.normal((1, 8, 40, 64), key=mx.random.key(1))
    options: dict[str, Any] = {"scale": 0.1, "mask": "causal"}
    if case == "bool mask":
        options["mask"] = mx.arange(340) % 3 > 0
    elif case == "mask by head":
        options["mask"] = mx.random.normal((1, 8, 40, 340), key=mx.random.key(2))
    elif case == "sinks":
        options["sinks"] = mx.random.normal((8,), key=mx.random.key(3))
    seen: list[int] = []

    def spy(q: mx.array, k: mx.array, v: mx.array, **options: Any) -> mx.array:
        seen.append(k.shape[1])
        return plain(q, k, v, **options)

    monkeypatch.setattr(attention, "plain_attention", spy)
    monkeypatch.setattr(by_heads, "GROUP_BYTES", k.nbytes * 2 * group // 4)
    out = mx.fast.scaled_dot_product_attention(q, k, v, **options)
    assert seen == [group] * (4 // group)
    assert mx.allclose(out, plain(q, *cache.contents(), **options), atol=2e-5)
