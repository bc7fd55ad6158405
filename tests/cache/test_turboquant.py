"""TurboQuantKVCache as mlx-lm uses a cache."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import maybe_quantize_kv_cache
from mlx_lm.models import cache as mlx_caches
from mlx_lm.models.base import create_attention_mask, create_causal_mask
from mlx_lm.models.cache import KVCache, QuantizedKVCache, RotatingKVCache

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache


def random(n: int, dim: int = 64, batch: int = 1, seed: int = 0) -> mx.array:
    return mx.random.normal((batch, 2, n, dim), key=mx.random.key(seed)).astype(mx.float16)


def filled(tokens: int = 150, **scheme: Any) -> TurboQuantKVCache:
    cache = TurboQuantKVCache(**(scheme or {"bits": 4}))
    cache.update_and_fetch(random(tokens), random(tokens, seed=1))
    return cache


def test_schemes_are_named_in_three_ways() -> None:
    assert TurboQuantKVCache(bits=3).scheme == Scheme(3, 3)
    assert TurboQuantKVCache(3).scheme == Scheme(3, 3)
    assert TurboQuantKVCache(key_bits=8, value_bits=3).scheme == Scheme(8, 3)
    assert TurboQuantKVCache(value_bits=3).scheme == Scheme(None, 3)
    assert TurboQuantKVCache(scheme="small").scheme == Scheme(4, 2)
    assert TurboQuantKVCache().scheme == Scheme()
    for bad in ({"bits": 9}, {"bits": 0}, {"bits": 3.5}, {"scheme": "large"}, {"key_bits": "4"}):
        with pytest.raises(ValueError, match="not supported|unknown"):
            TurboQuantKVCache(**bad)
    with pytest.raises(ValueError, match="Give one of"):
        TurboQuantKVCache(bits=3, key_bits=3)


def test_an_empty_cache_answers_everything() -> None:
    cache = TurboQuantKVCache(bits=3)
    assert (cache.offset, cache.size(), cache.nbytes, cache.trim(5)) == (0, 0, 0, 0)
    assert cache.empty()
    assert cache.is_trimmable()
    assert cache.keys is None
    assert cache.values is None
    assert cache.make_mask(1) is None
    mx.eval(cache.state)
    assert copy.deepcopy(cache).empty()


def test_mlx_lm_does_not_take_it_for_its_own_quantised_cache_nor_for_false() -> None:
    cache = TurboQuantKVCache(bits=3)
    for name in ("bits", "group_size", "__len__"):
        assert not hasattr(cache, name)
    assert bool(cache)


def test_whoever_asks_mlx_lm_for_its_own_quantisation_gets_it() -> None:
    cache = TurboQuantKVCache(bits=8)
    x = random(150)
    cache.update_and_fetch(x, x)
    layers: list[Any] = [cache]
    maybe_quantize_kv_cache(layers, quantized_kv_start=100, kv_group_size=32, kv_bits=8)
    (made,) = layers
    assert type(made) is QuantizedKVCache
    assert (made.offset, made.bits, made.group_size) == (150, 8, 32)
    found = mx.dequantize(*made.keys, group_size=32, bits=8)[:, :, :150]
    assert mx.allclose(found, x, atol=0.1)
    window = RotatingTurboQuantKVCache(64, bits=4)
    with pytest.raises(NotImplementedError, match="leave kv_bits out"):
        window.to_quantized()


def test_integers_are_kept_exact_where_anything_may_come() -> None:
    cache = TurboQuantKVCache(bits=3, any_dim=True)
    x = mx.arange(2 * 100 * 64).reshape(1, 2, 100, 64)
    for start in (0, 60, 99):
        cache.update_and_fetch(x[:, :, cache.offset : start], x[:, :, cache.offset : start])
    keys, _ = cache.keys_and_values()
    assert mx.array_equal(keys, x[:, :, :99])
    with pytest.raises(ValueError, match="float32, float16 or bfloat16"):
        TurboQuantKVCache(bits=3).update_and_fetch(x, x)


def test_updates_return_all_tokens_in_order() -> None:
    cache = TurboQuantKVCache(bits=8)
    k, v = random(200, 96), random(200, 64)
    for start, stop in ((0, 3), (3, 4), (4, 150), (150, 151), (151, 159), (159, 200)):
        held = cache.update_and_fetch(k[:, :, start:stop], v[:, :, start:stop])
        for side, x in zip(held, (k, v), strict=True):
            assert side.shape == x[:, :, :stop].shape
            assert side.dtype == mx.float16
            assert mx.allclose(side, x[:, :, :stop], atol=0.1)
        assert cache.offset == cache.size() == stop
        again = cache.keys_and_values()
        assert all(mx.array_equal(a, b) for a, b in zip(held, again, strict=True))


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_the_models_dtype_is_kept(dtype: mx.Dtype) -> None:
    cache = TurboQuantKVCache(bits=4)
    held = cache.update_and_fetch(random(200).astype(dtype), random(200).astype(dtype))
    assert {side.dtype for side in held} == {dtype}
    assert mx.array_equal(held[0], random(200).astype(dtype))  # the chunk at hand is exact
    mx.eval(cache.state)
    held = cache.update_and_fetch(random(1), random(1))
    assert {side.dtype for side in held} == {dtype}


def test_several_rows_of_equal_length_are_one_cache() -> None:
    cache = TurboQuantKVCache(bits=8)
    x = random(150, batch=3)
    cache.update_and_fetch(x, x)
    mx.eval(cache.state)
    keys, _ = cache.update_and_fetch(x[:, :, :1], x[:, :, :1])
    assert keys.shape == (3, 2, 151, 64)
    assert mx.allclose(keys[:, :, :150], x, atol=0.1)


@pytest.mark.parametrize("n", [0, 1, 30, 70, 100, 145, 148, 150, 1000])
def test_trim_forgets_the_newest_tokens(n: int) -> None:
    cache = filled(bits=8)
    mx.eval(cache.state)
    before = cache.keys_and_values()[0]
    trimmed = min(n, 150)
    assert cache.trim(n) == trimmed
    left = 150 - trimmed
    assert cache.offset == left
    keys, _ = cache.update_and_fetch(random(2, seed=5), random(2, seed=6))
    assert keys.shape[2] == left + 2
    assert mx.array_equal(keys[:, :, left:], random(2, seed=5))
    assert mx.allclose(keys[:, :, :left], before[:, :, :left], atol=1e-3)


def test_a_chunk_at_hand_is_trimmed_exactly() -> None:
    cache = filled(100)
    cache.update_and_fetch(random(50, seed=5), random(50, seed=6))
    cache.trim(20)
    keys, _ = cache.keys_and_values()
    assert mx.array_equal(keys[:, :, 100:], random(50, seed=5)[:, :, :30])


def test_a_copy_goes_its_own_way() -> None:
    cache = filled()
    mx.eval(cache.state)
    twin = copy.deepcopy(cache)
    before = [mx.array(side) for side in cache.keys_and_values()]
    mx.eval(before)
    for _ in range(40):
        twin.update_and_fetch(random(1, seed=9), random(1, seed=9))
        mx.eval(twin.state)
    twin.trim(60)
    assert all(map(mx.array_equal, cache.keys_and_values(), before))


def test_masks_are_those_of_mlx_lm() -> None:
    cache, plain = filled(), KVCache()
    plain.update_and_fetch(random(150), random(150))
    for n in (1, 2, 9):
        for window in (None, 4, 400):
            for return_array in (False, True):
                ours = cache.make_mask(n, return_array=return_array, window_size=window)
                theirs = plain.make_mask(n, return_array=return_array, window_size=window)
                if isinstance(theirs, mx.array):
                    assert mx.array_equal(ours, theirs)
                else:
                    assert ours == theirs
    h = mx.zeros((1, 1, 8))
    mask = create_attention_mask(h, cache, window_size=4)
    assert mx.array_equal(mask, create_causal_mask(1, offset=150, window_size=4))


def test_nbytes_counts_all_that_is_allocated() -> None:
    cache = filled(2000)
    mx.eval(cache.state)
    arrays = [array for side in (cache.keys, cache.values) for array in side or ()]
    assert cache.nbytes == sum(array.nbytes for array in arrays)
    assert cache.plain_nbytes == 2 * 2 * 2 * 2000 * 64
    assert cache.nbytes < cache.plain_nbytes / 3


def test_keys_can_be_made_to_depend_on_a_message() -> None:
    """What pipeline-parallel models of mlx-lm do after every step."""
    cache = filled()
    mx.eval(cache.state)
    before = [mx.array(a) for a in cache.keys_and_values()]
    cache.keys = mx.depends(cache.keys, mx.ones((3,)))
    assert all(map(mx.array_equal, cache.keys_and_values(), before))
    with pytest.raises(ValueError, match="empty"):
        TurboQuantKVCache(bits=3).keys = [mx.ones((1,))]


def test_keys_and_values_read_like_arrays() -> None:
    cache = filled(20)
    assert cache.keys is not None
    assert cache.keys.shape == (1, 2, 20, 64)
    assert cache.keys.dtype == mx.float16
    assert mx.array_equal(cache.keys[..., 3:5, :], random(20)[:, :, 3:5])


def test_a_plain_cache_can_be_compressed_and_back() -> None:
    plain = KVCache()
    plain.update_and_fetch(random(300), random(300, seed=1))
    cache = TurboQuantKVCache.from_kv_cache(plain, bits=8)
    assert cache.offset == 300
    assert cache.nbytes < plain.nbytes
    back = cache.to_kv_cache()
    assert type(back) is KVCache
    assert back.offset == 300
    assert all(map(mx.array_equal, back.keys_and_values(), cache.keys_and_values()))
    assert TurboQuantKVCache.from_kv_cache(KVCache()).empty()
    assert TurboQuantKVCache(bits=3).to_kv_cache().empty()


def test_a_head_dim_without_rotation_is_an_error_or_stays_exact() -> None:
    x = random(100, dim=72)
    with pytest.raises(ValueError, match=r"head_dim 72 is not supported.*64, 80"):
        TurboQuantKVCache(bits=3).update_and_fetch(x, x)
    cache = TurboQuantKVCache(bits=3, any_dim=True)
    cache.update_and_fetch(x, x)
    mx.eval(cache.state)
    assert mx.array_equal(cache.keys_and_values()[0], x)


def test_a_cache_moves_between_threads() -> None:
    """MLX streams belong to threads: nothing lazy may stay behind in the one that made it."""
    cache, seen = filled(), list[Any]()
    mx.eval(cache.state)

    def work() -> None:
        try:
            held = cache.update_and_fetch(random(40), random(40))
            mx.eval(held, cache.state)
            seen.append(held[0].shape[2])
        except Exception as error:  # reported by the assertion below
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [190]


def test_mlx_lm_finds_the_class_by_name() -> None:
    assert mlx_caches.TurboQuantKVCache is TurboQuantKVCache


def test_importing_the_package_imports_neither_mlx_nor_numpy() -> None:
    code = (
        "import sys, tqgen_kernels; tqgen_kernels.__version__; "
        "sys.exit(any(m in sys.modules for m in ('mlx', 'mlx.core', 'mlx_lm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_caches_are_no_rows_and_no_plain_caches() -> None:
    plain: Any = KVCache
    x = mx.random.normal((1, 2, 100, 64), key=mx.random.key(1))
    held = plain()
    held.update_and_fetch(x, x)
    for other in (held.to_quantized(32, 8), RotatingTurboQuantKVCache(64, bits=4), None):
        with pytest.raises(ValueError, match="cannot"):
            RotatingTurboQuantKVCache.from_kv_cache(other)
    with pytest.raises(ValueError, match="a QuantizedKVCache cannot"):
        TurboQuantKVCache.from_kv_cache(held.to_quantized(32, 8))
    with pytest.raises(ValueError, match="rows of TurboQuantKVCache alone"):
        TurboQuantKVCache.merge([TurboQuantKVCache(bits=4), held])
    cache = TurboQuantKVCache.from_kv_cache(held, bits=4)
    assert cache.trim(-5) == 0
    assert cache.offset == cache.keys_and_values()[0].shape[2] == 100


@pytest.mark.parametrize("lengths", [(20,), (100,), (100, 1, 1, 1), (60, *[1] * 30)])
def test_a_sliding_window_is_compressed_and_back(lengths: tuple[int, ...]) -> None:
    rotating: Any = RotatingKVCache
    plain, ours = rotating(64, 4), RotatingTurboQuantKVCache(64, 4, bits=8)
    for i, length in enumerate(lengths):
        x = mx.random.normal((1, 2, length, 64), key=mx.random.key(i))
        for cache in (plain, ours):
            cache.update_and_fetch(x, x)
    made = RotatingTurboQuantKVCache.from_kv_cache(plain, bits=8)
    back = ours.to_kv_cache()
    assert made.offset == back.offset == plain.offset == sum(lengths)
    new = mx.random.normal((1, 2, 1, 64), key=mx.random.key(99))
    expected = mx.sort(plain.update_and_fetch(new, new)[0], axis=2)
    for cache in (made, back):
        found = mx.sort(cache.update_and_fetch(new, new)[0], axis=2)
        assert found.shape == expected.shape
        assert mx.allclose(found, expected, atol=0.05)
