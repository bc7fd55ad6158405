"""A store against a plain list of tokens that the reference encodes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tqgen_kernels import Scheme
from tqgen_kernels.backends.packed import Storage
from tqgen_kernels.cache.centre import CENTRE_TOKENS
from tqgen_kernels.cache.state import read, write
from tqgen_kernels.cache.store import Store
from tqgen_kernels.execution.operations import MAX_Q_LEN
from tqgen_kernels.quant import reference
from tqgen_kernels.quant.codebook import CodebookKind, side_kind
from tqgen_kernels.quant.hadamard import supported_dims
from tqgen_kernels.quant.packing import TILE


@dataclass
class PlainSide:
    """Tokens as the cache should hold them: those in tiles coded, the others as they came."""

    scheme: Scheme
    bits: int | None
    seed: int
    centred: bool = False
    tokens: list[NDArray[np.float64]] = field(default_factory=list)
    tiles: int = 0
    centre: NDArray[np.float64] | float = 0.0

    def append(self, x: NDArray[np.float32]) -> None:
        self.tokens += [x[:, :, i].astype(np.float64) for i in range(x.shape[2])]
        s = self.scheme
        room = s.sinks + max(s.residual, MAX_Q_LEN)
        while self.bits is not None and len(self.tokens) - self.tiles * TILE >= room + TILE:
            if self.centred and not self.tiles:
                self.centre = np.mean(self.tokens[s.sinks : s.sinks + CENTRE_TOKENS], axis=0)
            for i in range(TILE):
                at = s.sinks + self.tiles * TILE + i
                book = side_kind(s.codebook, "key" if self.seed == s.key_seed else "value")
                token = self.tokens[at] - self.centre
                encoded = reference.encode(
                    token, self.bits, self.seed, s.norm_correction, codebook=book
                )
                token = reference.decode(encoded, self.bits, self.seed, codebook=book)
                self.tokens[at] = token + self.centre
            self.tiles += 1

    def trim(self, n: int) -> None:
        del self.tokens[len(self.tokens) - n :]
        self.tiles = min(self.tiles, max(len(self.tokens) - self.scheme.sinks, 0) // TILE)

    def contents(self) -> NDArray[np.float64]:
        return np.stack(self.tokens, axis=2)


def same(held: mx.array, plain: PlainSide) -> bool:
    expected = plain.contents()
    assert held.shape == expected.shape
    error = np.linalg.norm(np.array(held) - expected, axis=-1)
    error /= np.linalg.norm(expected, axis=-1)
    # float32 against float64: now and then a coordinate falls to the other side of a boundary.
    return bool(error.max() < 0.3 and (error > 1e-3).mean() < 0.05)


bits = st.one_of(st.none(), st.integers(1, 8))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 90)),
        st.tuples(st.just("append"), st.integers(1, MAX_Q_LEN)),
        st.tuples(st.just("trim"), st.integers(1, 100)),
        st.tuples(st.just("save"), st.just(0)),
        st.tuples(st.just("copy"), st.just(0)),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=40, phases=[Phase.explicit, Phase.generate])
@given(
    dims=st.tuples(st.sampled_from(supported_dims()), st.sampled_from(supported_dims())),
    key_bits=bits,
    value_bits=bits,
    residual=st.sampled_from([0, 8, 40]),
    sinks=st.sampled_from([0, 1, 4]),
    correction=st.booleans(),
    codebook=st.sampled_from(["lloyd-max", "uniform", "cubic", "mixed"]),
    centre=st.booleans(),
    storage=st.sampled_from(["tiles", "fragment"]),
    first=st.integers(1, 150),
    steps=steps,
)
def test_a_store_holds_what_the_reference_says(
    dims: tuple[int, int],
    key_bits: int | None,
    value_bits: int | None,
    residual: int,
    sinks: int,
    correction: bool,
    codebook: CodebookKind,
    centre: bool,
    storage: Storage,
    first: int,
    steps: list[tuple[str, int]],
) -> None:
    scheme = Scheme(key_bits, value_bits, 7, residual, sinks, correction, codebook, centre)
    store = Store(scheme, storage="tiles" if any(dim % 32 for dim in dims) else storage)
    keys = PlainSide(scheme, key_bits, 7, centred=centre and sinks > 0)
    values = PlainSide(scheme, value_bits, 8)
    rng = np.random.default_rng(first)
    for step, n in [("append", first), *steps]:
        if step == "append":
            k, v = (rng.standard_normal((1, 2, n, dim), np.float32) for dim in dims)
            store.append(mx.array(k), mx.array(v))
            store.settle()
            keys.append(k)
            values.append(v)
        elif step == "trim":
            n = min(n, len(keys.tokens) - 1)
            assert store.trim(n) == n
            keys.trim(n)
            values.trim(n)
        elif step == "save":
            store, _ = read(write(store))
        else:
            old, store = store, copy.deepcopy(store)
            old.append(mx.ones((1, 2, 3, dims[0])), mx.ones((1, 2, 3, dims[1])))
        held = store.contents()
        assert store.tokens == len(keys.tokens)
        assert same(held[0], keys)
        assert same(held[1], values)


def filled(tokens: int, dim: int, scheme: Scheme, chunk: int = 512) -> Store:
    store = Store(scheme)
    for start in range(0, tokens, chunk):
        n = min(chunk, tokens - start)
        x = mx.random.normal((1, 1, n, dim), key=mx.random.key(start)).astype(mx.float16)
        store.append(x, x)
        store.settle()
        mx.eval([side.arrays for side in store.sides()])
    return store


@pytest.mark.parametrize("chunk", [2048, 500])
def test_three_bits_are_at_least_4_9_times_smaller_than_fp16(chunk: int) -> None:
    store = filled(32768, 128, Scheme(3, 3), chunk)
    assert 2 * 32768 * 128 * 2 / store.nbytes >= 4.9


def test_the_newest_chunk_is_exact_until_it_is_settled() -> None:
    store = filled(200, 64, Scheme(2, 2))
    x = mx.random.normal((1, 1, 100, 64)).astype(mx.float16)
    store.append(x, x)
    assert mx.array_equal(store.contents()[0][:, :, 200:], x)
    store.settle()
    assert not mx.array_equal(store.contents()[0][:, :, 200:], x)
    assert mx.array_equal(store.contents()[0][:, :, 240:], x[:, :, 40:])


def test_the_first_and_the_newest_tokens_are_exact() -> None:
    x = mx.random.normal((1, 1, 300, 64))
    store = Store(Scheme(1, 1, sinks=4, residual=64))
    store.append(x, x)
    store.settle()
    for held in store.contents():
        exact = mx.all(held == x, axis=-1)[0, 0].tolist()
        assert all(exact[:4])
        assert all(exact[-64:])
        assert not any(exact[4:160])


def test_a_tile_is_appended_in_place() -> None:
    """No copy of the packed buffers: what is allocated anew is far less than they take."""
    store = filled(60000, 64, Scheme(4, 4))
    large = sum(side.arrays[0].nbytes for side in store.sides())
    grown = copied = 0
    for _ in range(4 * TILE):
        x = mx.random.normal((1, 1, 1, 64)).astype(mx.float16)
        mx.eval(x)
        mx.reset_peak_memory()
        before, room = mx.get_active_memory(), store.sides()[0].arrays[0].shape[2]
        store.append(x, x)
        mx.eval([side.arrays for side in store.sides()])
        grown += store.sides()[0].arrays[0].shape[2] != room
        copied += mx.get_peak_memory() - before > large / 4
    assert copied == grown <= 1


@given(keep=st.sampled_from([0, 3]), steps=st.lists(st.integers(1, 60), min_size=2, max_size=9))
@settings(max_examples=20, phases=[Phase.explicit, Phase.generate])
@pytest.mark.parametrize("side_bits", [8, None])
def test_dropped_tokens_are_the_oldest_after_the_sinks(
    side_bits: int | None, keep: int, steps: list[int]
) -> None:
    scheme = Scheme(side_bits, 8, sinks=keep, residual=8)
    store, plain, count = Store(scheme), list[int](), 0
    for n in steps:
        drop = max(len(plain) - 50, 0)
        store.drop(drop)
        del plain[keep : keep + drop]
        x = mx.arange(count + 1, count + n + 1, dtype=mx.float32)[None, None, :, None]
        x = x * mx.ones((1, 1, 1, 64))
        store.append(x, x)
        plain += range(count + 1, count + n + 1)
        count += n
        for held in store.contents():
            found = mx.abs(held).mean(-1)[0, 0]
            np.testing.assert_allclose(np.array(found), plain, rtol=0.02)


def test_mismatched_and_foreign_arrays_are_refused() -> None:
    store = Store(Scheme(3, 3))
    ones = mx.ones((1, 2, 5, 64))
    with pytest.raises(ValueError, match="do not belong together"):
        store.append(ones, mx.ones((1, 2, 4, 64)))
    with pytest.raises(ValueError, match="not mlx.core.int32"):
        store.append(ones.astype(mx.int32), ones.astype(mx.int32))
    with pytest.raises(ValueError, match="head_dim 72 is not supported.*64, 80"):
        store.append(mx.ones((1, 2, 5, 72)), ones)
    assert store.tokens == 0
    store.append(ones, ones)
    with pytest.raises(ValueError, match="2 heads of 64"):
        store.append(mx.ones((1, 3, 5, 64)), mx.ones((1, 3, 5, 64)))
    with pytest.raises(ValueError, match="do not belong together"):
        store.append(ones, mx.ones((1, 2, 4, 64)))
    assert store.tokens == 5
