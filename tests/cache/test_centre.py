"""Keys packed without the vector that they have in common."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.backends.packed import Storage
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache
from tqgen_kernels.cache.centre import CENTRE_TOKENS, centre_of
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.cache.side import PackedSide
from tqgen_kernels.cache.state import read, write
from tqgen_kernels.cache.store import Store
from tqgen_kernels.execution.operations import attend, encode
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.packing import TILE

SMALL = Scheme(3, 3)
PLAIN = Scheme(3, 3, centre=False)
COMMON = 4 * mx.random.normal((1, 2, 1, 64), key=mx.random.key(99))


def random(n: int, seed: int = 0, batch: int = 1) -> mx.array:
    return mx.random.normal((batch, 2, n, 64), key=mx.random.key(seed))


def filled(scheme: Scheme, keys: mx.array, chunk: int = 100, storage: Storage = "tiles") -> Store:
    store = Store(scheme, storage=storage)
    for start in range(0, keys.shape[2], chunk):
        part = keys[:, :, start : start + chunk]
        store.append(part, random(part.shape[2], seed=1000 + start, batch=part.shape[0]))
    store.settle()
    return store


def key_side(store: Store) -> PackedSide:
    assert isinstance(store.keys, PackedSide)
    return store.keys


def centre(store: Store) -> mx.array:
    found = key_side(store).centre
    assert found is not None
    return found


def attention(store: Store, q: mx.array) -> mx.array:
    packed = store.packed()
    assert packed is not None
    return attend(q, packed, scale=64**-0.5)


def exact(keys: mx.array, values: mx.array, q: mx.array) -> mx.array:
    """Causal attention of the newest queries, two heads a key head."""
    mask = None if q.shape[2] == 1 else "causal"
    return mx.fast.scaled_dot_product_attention(q, keys, values, scale=64**-0.5, mask=mask)


def error(store: Store, keys: mx.array, q: mx.array) -> float:
    """Of attention, with the values as they are stored: what the keys cost."""
    expected = exact(keys, store.contents()[1], q)
    difference = attention(store, q) - expected
    return float(np.linalg.norm(np.array(difference)) / np.linalg.norm(np.array(expected)))


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("storage", ["tiles", "fragment"])
def test_keys_with_a_common_vector_cost_far_less(storage: Storage, length: int) -> None:
    keys, q = random(400) + COMMON, mx.random.normal((1, 4, length, 64), key=mx.random.key(7))
    centred, plain = (
        error(filled(scheme, keys, storage=storage), keys, q) for scheme in (SMALL, PLAIN)
    )
    assert centred < 0.2
    assert centred < plain / 2.5


def test_a_vector_added_to_all_keys_changes_nothing() -> None:
    keys, q = random(400), mx.random.normal((1, 4, 1, 64), key=mx.random.key(7))
    for scheme, unmoved in ((SMALL, True), (PLAIN, False)):
        out, moved = (attention(filled(scheme, k), q) for k in (keys, keys + COMMON))
        # Rounding may put a coordinate on the other side of a boundary.
        assert bool(mx.allclose(out, moved, atol=2e-3).item()) is unmoved


def test_a_short_prompt_gets_its_centre_with_the_first_tile() -> None:
    keys, q = random(400) + COMMON, mx.random.normal((1, 4, 1, 64), key=mx.random.key(7))
    store = filled(SMALL, keys[:, :, :12])
    room = SMALL.sinks + SMALL.residual + TILE
    for i in range(12, 400):
        assert (key_side(store).centre is None) is (i < room)
        store.append(keys[:, :, i : i + 1], keys[:, :, i : i + 1])
    first = keys[:, :, SMALL.sinks : room].mean(2, keepdims=True)
    assert mx.allclose(centre(store), first, atol=1e-5)
    plain = filled(PLAIN, keys, chunk=1)
    assert error(store, keys, q) < error(plain, keys, q) / 2.5
    assert mx.array_equal(store.contents()[0][:, :, -64:], keys[:, :, -64:])
    assert mx.allclose(store.contents()[0], keys, atol=1)


def test_a_long_prompt_is_centred_by_its_first_tokens() -> None:
    keys = random(1500) + COMMON
    store = filled(SMALL, keys, chunk=1500)
    expected = keys[:, :, 4 : 4 + CENTRE_TOKENS].mean(2, keepdims=True)
    assert mx.allclose(centre(store), expected, atol=1e-5)
    before = centre(store)
    store.append(random(500), random(500))
    assert mx.array_equal(store.contents()[0][:, :, 1500:], random(500))  # the chunk at hand
    store.settle()
    assert mx.array_equal(centre(store), before)
    for i in (0, 1):  # rows and heads have centres of their own
        assert not mx.allclose(centre(store)[:, i], centre(store)[:, 1 - i], atol=1)


def test_trim_inside_a_tile_gives_the_keys_back() -> None:
    keys = random(300) + COMMON
    store = filled(SMALL, keys)
    before, kept = store.contents()[0], centre(store)
    store.trim(150)  # to token 150: inside the fifth tile
    assert key_side(store).tiles == 4
    assert mx.array_equal(centre(store), kept)
    assert mx.allclose(store.contents()[0], before[:, :, :150], atol=1e-5)
    store.append(keys[:, :, 150:], keys[:, :, 150:])
    store.settle()
    assert mx.array_equal(centre(store), kept)
    assert mx.allclose(store.contents()[0], keys, atol=1.5)


def test_trim_of_all_tiles_lets_other_keys_choose() -> None:
    store = filled(SMALL, random(300) + COMMON)
    store.trim(280)
    assert key_side(store).tiles == 0
    assert mx.allclose(store.contents()[0], (random(300) + COMMON)[:, :, :20], atol=1)
    store.append(random(400) - COMMON, random(400))
    store.settle()
    assert mx.abs(centre(store) + COMMON).max() < mx.abs(COMMON).max() / 2
    assert mx.allclose(store.contents()[0][:, :, 20:], random(400) - COMMON, atol=2)
    store.trim(410)
    assert key_side(read(write(store))[0]).centre is None


def cache_of(
    cls: type = TurboQuantKVCache, tokens: int = 300, batch: int = 1, seed: int = 0, **own: Any
) -> Any:
    cache = cls(**own, scheme=SMALL)
    for start in range(0, tokens, 60):
        n = min(60, tokens - start)
        keys = (random(n, seed + start, batch) + COMMON).astype(mx.float16)
        cache.update_and_fetch(keys, random(n, seed + start + 1, batch).astype(mx.float16))
    return cache


def held(cache: Any) -> list[mx.array]:
    """Of each row: contents, centre, and attention where the packed form can answer."""
    q = mx.random.normal((1, 4, 1, 64), key=mx.random.key(7)).astype(mx.float16)
    arrays: list[mx.array] = []
    for row in rows(cache):
        row.store.settle()
        arrays += [*row.store.contents(), centre(row.store)]
        arrays += [] if row.store.packed() is None else [attention(row.store, q)]
    return arrays


def rows(cache: Any) -> list[Any]:
    return cache.rows if isinstance(cache, BatchTurboQuantKVCache) else [cache]


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    pairs = list(zip(held(a), held(b), strict=True))
    return len(pairs) > 2 and all(bool(mx.array_equal(x, y).item()) for x, y in pairs)


@pytest.mark.parametrize(
    "make",
    [
        cache_of,
        lambda: cache_of(RotatingTurboQuantKVCache, max_size=250, keep=4),
        lambda: cache_of(BatchTurboQuantKVCache, batch=3, left_padding=[0, 20, 90]),
    ],
)
def test_files_and_copies_hold_the_centre(make: Callable[[], Any], tmp_path: Path) -> None:
    cache = make()
    save_prompt_cache(str(tmp_path / "prompt.safetensors"), [cache])
    (loaded,) = load_prompt_cache(str(tmp_path / "prompt.safetensors"))
    assert same(loaded, cache)
    twin = copy.deepcopy(cache)
    assert same(twin, cache)
    batch = cache.offset.shape[0] if isinstance(cache.offset, mx.array) else 1
    for i in range(100):
        new = random(1, 500 + i, batch).astype(mx.float16)
        loaded.update_and_fetch(new, new)
        twin.update_and_fetch(new, new)
    assert same(loaded, twin)
    for row, old in zip(rows(twin), rows(cache), strict=True):
        assert mx.array_equal(centre(row.store), centre(old.store))


def test_rows_of_a_batch_keep_their_centres() -> None:
    one, two = cache_of(tokens=300), cache_of(tokens=170, seed=5)
    batch = TurboQuantKVCache.merge([one, two, one])
    assert same(batch.extract(1), two)
    batch.filter([2, 1])
    assert same(batch.extract(0), one)
    assert same(batch.extract(1), two)
    assert not mx.array_equal(centre(one.store), centre(two.store))
    sizes: dict[str, Any] = {"max_size": 250, "keep": 4}
    windows = [cache_of(RotatingTurboQuantKVCache, n, seed=n, **sizes) for n in (300, 120)]
    sliding = RotatingTurboQuantKVCache.merge(windows)
    assert isinstance(sliding, BatchRotatingTurboQuantKVCache)
    sliding.filter([1])
    assert same(sliding.extract(0), windows[1])


def test_tokens_that_are_not_finite_do_not_count() -> None:
    keys = random(300) + COMMON
    keys[:, 0, 40] = float("nan")
    keys[:, 1, 50, 3] = float("inf")
    store = filled(SMALL, keys, chunk=300)
    whole = np.array(keys)
    for head, left_out in ((0, 40), (1, 50)):
        counted = [i for i in range(4, 4 + CENTRE_TOKENS) if i != left_out]
        expected = whole[0, head, counted].mean(0)
        np.testing.assert_allclose(np.array(centre(store))[0, head, 0], expected, atol=1e-5)
    held = np.array(store.contents()[0])
    broken = {(int(h), int(i)) for h, i in np.argwhere(~np.isfinite(held[0]).all(-1))}
    assert broken == {(0, 40), (1, 50)}
    nothing = mx.full((1, 2, 50, 64), float("nan"))
    assert mx.array_equal(centre_of(nothing), mx.zeros((1, 2, 1, 64)))


def test_the_mean_of_large_keys_is_finite() -> None:
    keys = mx.full((1, 1, 300, 64), 3e38)
    assert mx.allclose(centre_of(keys), keys[:, :, :1], rtol=1e-5)
    keys = mx.full((1, 1, 300, 64), 30000, mx.float16)
    assert mx.allclose(centre_of(keys), keys[:, :, :1], rtol=1e-3)


def test_float16_keys_at_both_ends_of_their_range_stay_finite() -> None:
    """A difference of two of them need not fit."""
    far = mx.full((1, 2, 600, 64), 60000, mx.float16)
    far[:, 0, 40] = -60000
    assert mx.array_equal(centre_of(far), mx.zeros((1, 2, 1, 64), mx.float16))
    late = mx.full((1, 2, 600, 64), 10000, mx.float16)
    late[:, 0, 400] = -60000
    store = filled(SMALL, late, chunk=300)
    assert mx.all(centre(store) == 10000).item()
    q = mx.full((1, 4, 1, 64), -1e-3, mx.float16)
    out = attention(store, q)
    assert mx.all(mx.isfinite(out)).item()
    assert mx.allclose(out[:, 0], store.contents()[1][:, 0, 400:401], atol=1e-2)  # found it


@pytest.mark.parametrize("scheme", [PLAIN, Scheme(3, 3, sinks=0), Scheme.named("seed")])
@pytest.mark.parametrize("layout", ["key", "key_fragment"])
def test_without_centring_or_sinks_tiles_hold_the_keys_themselves(
    scheme: Scheme, layout: Any
) -> None:
    keys = random(300) + COMMON
    store = filled(scheme, keys, storage="fragment" if layout == "key_fragment" else "tiles")
    side = key_side(store)
    assert side.centre is None
    assert side.words is not None
    packed = keys[:, :, scheme.sinks : scheme.sinks + side.tiles * TILE]
    words, _ = encode(
        packed,
        bits=3,
        seed=42,
        layout=layout,
        norm_correction=scheme.norm_correction,
        codebook=side_kind(scheme.codebook, "key"),
    )
    assert mx.array_equal(side.words[:, :, : side.tiles], words)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_keys_alone_have_a_centre_and_it_counts(dtype: mx.Dtype) -> None:
    keys = (random(300) + COMMON).astype(dtype)
    store = filled(SMALL, keys)
    assert centre(store).dtype == dtype
    assert centre(store).shape == (1, 2, 1, 64)
    assert isinstance(store.values, PackedSide)
    assert store.values.centre is None
    assert store.contents()[0].dtype == dtype
    packed = store.packed()
    assert packed is not None
    assert packed.exact_keys.dtype == dtype
    plain = filled(PLAIN, keys)
    assert store.nbytes == plain.nbytes + centre(store).nbytes
