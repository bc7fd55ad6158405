"""What prompt-cache files hold: the same after reading, and refused when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

from tqgen_kernels import Scheme, TurboQuantKVCache
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.batch_rotating import BatchRotatingTurboQuantKVCache
from tqgen_kernels.cache.rotating import RotatingTurboQuantKVCache
from tqgen_kernels.cache.state import FIELDS, StateError, sealed
from tqgen_kernels.quant import packing, reference

ARRAYS = ("exact_keys", "exact_values", "key_words", "value_words", "key_scales", "value_scales")
BITS = ("key_bits", "value_bits")
SCHEME = (*BITS, "seed", "residual", "sinks", "norm_correction", "codebook", "centre", "guard")
NAMES = (*ARRAYS, "first", "format", "any_dim", *SCHEME, "key_centre", "checksum")


def filled(cache: Any, tokens: int = 150, batch: int = 1, dims: tuple[int, int] = (96, 64)) -> Any:
    for start in range(0, tokens, 60):
        n = min(60, tokens - start)
        k, v = (
            mx.random.normal((batch, 2, n, dim), key=mx.random.key(start + dim)) for dim in dims
        )
        cache.update_and_fetch(k.astype(mx.float16), v.astype(mx.float16))
    return cache


def same(a: Any, b: Any) -> bool:
    pairs = zip(a.keys_and_values(), b.keys_and_values(), strict=True)
    return all(mx.array_equal(x, y, equal_nan=True) for x, y in pairs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: filled(TurboQuantKVCache(bits=3)),
        lambda: filled(TurboQuantKVCache(key_bits=4)),
        lambda: filled(TurboQuantKVCache(value_bits=2), dims=(80, 80)),
        lambda: filled(TurboQuantKVCache(scheme=Scheme(3, 2, codebook="cubic"))),
        lambda: filled(TurboQuantKVCache(scheme="seed"), tokens=3),
        lambda: filled(TurboQuantKVCache(scheme="seed"), tokens=160, batch=2),
        lambda: filled(TurboQuantKVCache(bits=3, any_dim=True), dims=(72, 64)),
        lambda: filled(RotatingTurboQuantKVCache(100, keep=4, bits=5), tokens=400),
        lambda: filled(BatchTurboQuantKVCache([1, 30, 0]), batch=3),
        lambda: filled(BatchRotatingTurboQuantKVCache(70, [1, 30]), batch=2),
    ],
)
def test_a_file_gives_the_same_cache_back(make: Callable[[], Any], tmp_path: Path) -> None:
    cache = make()
    path = str(tmp_path / "prompt.safetensors")
    save_prompt_cache(path, [cache, TurboQuantKVCache(bits=2)], {"model": "tiny"})
    (loaded, empty), metadata = load_prompt_cache(path, return_metadata=True)
    assert metadata == {"model": "tiny"}
    assert type(loaded) is type(cache)
    assert empty.empty()
    assert empty.scheme == Scheme(2, 2)
    assert mx.array_equal(loaded.offset, cache.offset)
    assert same(loaded, cache)
    shapes = [side.shape for side in cache.keys_and_values()]
    new = [mx.ones((s[0], s[1], 1, s[3]), mx.float16) for s in shapes]
    for _ in range(70):
        cache.update_and_fetch(*new)
        loaded.update_and_fetch(*new)
    assert same(loaded, cache)


def test_words_in_a_file_are_token_major() -> None:
    """What the file says decodes with the reference alone."""
    state = dict(zip(NAMES, filled(TurboQuantKVCache(bits=3)).state, strict=True))
    x = mx.random.normal((1, 2, 60, 64), key=mx.random.key(64)).astype(mx.float16)
    codes = packing.unpack(np.array(state["value_words"]), 64, 3)
    expected = reference.encode(np.array(x), 3, 43, codebook="uniform")
    assert (codes[:, :, :32] == expected.codes[:, :, 4:36]).mean() > 0.999
    assert state["key_words"].shape == (1, 2, 64, 9)
    assert state["exact_keys"].shape == (1, 2, 86, 96)


def test_evaluating_the_state_leaves_the_canonical_form_uncomputed() -> None:
    """mlx-lm evaluates it after every chunk of a prompt."""
    cache = filled(TurboQuantKVCache(bits=3), tokens=3000)
    mx.eval(cache.state)
    held = cache.nbytes
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(cache.state)
    assert mx.get_peak_memory() - before < held / 10
    saved = tree_flatten(cache.state)
    mx.eval(saved)
    assert sum(a.nbytes for _, a in saved if isinstance(a, mx.array)) < held


def test_a_cache_can_be_given_its_own_state() -> None:
    cache = filled(TurboQuantKVCache(bits=3))
    other = TurboQuantKVCache(bits=3)
    other.state = cache.state
    assert same(cache, other)
    assert other.offset == 150
    assert same(TurboQuantKVCache.from_state(cache.state), cache)


def damage(**changes: Any) -> list[Any]:
    state = dict(zip(NAMES, filled(TurboQuantKVCache(bits=3)).state, strict=True))
    for name, change in changes.items():
        state[name] = change(state[name]) if callable(change) else change
    *fields, found = state.values()
    return list(sealed(*fields)) if "checksum" not in changes else [*fields, found]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "turboquant-9"}, "'turboquant-9'"),
        ({"format": 3}, "stored as 3"),
        ({"key_words": lambda a: a[:, :, :32]}, "keys' words"),
        ({"key_words": lambda a: a[..., :-1]}, "keys' words"),
        ({"value_words": lambda a: a.astype(mx.int32)}, "values' words"),
        ({"value_words": None}, "words without scales"),
        ({"key_scales": None}, "words without scales"),
        ({"key_scales": lambda a: a.astype(mx.float32)}, "keys' scales"),
        ({"key_scales": lambda a: a[:, :1]}, "keys' scales"),
        ({"key_scales": lambda a: a * float("nan")}, "NaN"),
        ({"value_scales": lambda a: a - 100}, "negative"),
        ({"value_scales": lambda a: a * float("inf")}, "infinite"),
        ({"exact_keys": lambda a: a[:, :, :-1]}, "tokens"),
        ({"exact_keys": lambda a: a[0]}, "exact keys"),
        ({"exact_keys": lambda a: mx.concatenate([a, a], 2)}, "172 tokens"),
        ({"exact_keys": lambda a: a.astype(mx.int32)}, "int32"),
        ({"exact_keys": None}, "exact keys"),
        ({"exact_values": lambda a: a[..., :50]}, "head_dim 50"),
        ({"exact_values": lambda a: a[..., :32]}, "values' words"),
        ({"exact_values": lambda a: a[:, :1]}, "different batches"),
        ({"key_bits": 9}, "key bits"),
        ({"key_bits": 4}, "keys' words"),
        ({"key_bits": -1}, "both exact and packed"),
        ({"value_bits": 0}, "bits 0"),
        ({"value_bits": 2.5}, "value bits"),
        ({"residual": -4}, "residual"),
        ({"residual": 10**9}, "residual"),
        ({"sinks": 1000}, "fewer than the sinks"),
        ({"seed": -1}, "seed"),
        ({"seed": mx.array(3)}, "seed"),
        ({"first": 40}, "first"),
        ({"first": "0"}, "first"),
        ({"norm_correction": "yes"}, "norm correction"),
        ({"codebook": "dense"}, "dense"),
        ({"codebook": 3}, "codebook"),
        ({"centre": 1}, "centring"),
        ({"centre": False}, "centre"),
        ({"guard": "maybe"}, "guard 'maybe'"),
        ({"guard": None}, "guard None"),
        ({"key_centre": None}, "centre"),
        ({"key_centre": 0.5}, "centre"),
        ({"key_centre": lambda a: a[:, :1]}, "centre .*float16 of shape"),
        ({"key_centre": lambda a: a.astype(mx.float32)}, "centre .*float32"),
        ({"key_centre": lambda a: a * float("nan")}, "centre .*NaN"),
        ({"checksum": "00000000"}, "content .*checksum"),
        ({"checksum": None}, "content .*checksum"),
    ],
)
def test_damaged_states_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StateError, match=message):
        TurboQuantKVCache.from_state(damage(**changes))


def test_a_file_of_an_earlier_version_is_refused_by_its_name() -> None:
    earlier = damage(format="turboquant-1")[:-2]
    with pytest.raises(StateError, match="'turboquant-1'.*make the prompt cache again"):
        TurboQuantKVCache.from_state(earlier)


@pytest.mark.parametrize("state", [None, [], (1, 2), mx.zeros((3,)), "state", [None] * FIELDS])
def test_foreign_states_are_refused(state: Any) -> None:
    for cls in (TurboQuantKVCache, RotatingTurboQuantKVCache, BatchTurboQuantKVCache):
        with pytest.raises(StateError):
            cls.from_state(state)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [(0, 3, "offset"), (0, -1, "offset"), (1, 2, "keep"), (2, 3, "max_size"), (2, 0.5, "max_size")],
)
def test_a_damaged_sliding_window_is_refused(position: int, value: Any, message: str) -> None:
    state = list(filled(RotatingTurboQuantKVCache(100, keep=4)).state)
    state[FIELDS + position] = value
    with pytest.raises(StateError, match=message):
        RotatingTurboQuantKVCache.from_state(sealed(*state[:-1]))
    with pytest.raises(StateError, match="checksum"):
        RotatingTurboQuantKVCache.from_state(state)


def test_a_single_changed_bit_is_noticed() -> None:
    """A code that differs is as good as any other: only the checksum can tell."""
    state = list(filled(TurboQuantKVCache(bits=3)).state)
    for place, field in enumerate(state[: len(ARRAYS)]):
        bits = mx.uint32 if field.dtype == mx.uint32 else mx.uint16
        raw = mx.array(field.view(bits))
        raw[0, 1, -1] = raw[0, 1, -1] ^ mx.array(1, bits)
        changed = [*state[:place], raw.view(field.dtype), *state[place + 1 :]]
        with pytest.raises(StateError, match="checksum"):
            TurboQuantKVCache.from_state(changed)


def test_a_damaged_batch_is_refused() -> None:
    rows, width, padding, _ = filled(BatchTurboQuantKVCache([0, 2]), batch=2).state
    for state in (
        (rows[:1], width, padding),
        (rows, -1, padding),
        (rows, width, padding.astype(mx.float32)),
        (rows, width, padding - 5),
        ([damage(key_bits=9)] * 2, width, padding),
    ):
        with pytest.raises(StateError):
            BatchTurboQuantKVCache.from_state(sealed(*state))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt_cache(str(path), [filled(TurboQuantKVCache(bits=3))])
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises((RuntimeError, ValueError)):
        mx.eval(load_prompt_cache(str(path))[0].state)
