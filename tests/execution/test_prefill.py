"""A prompt chunk over the packed store: the kernel where it was chosen, dequantised otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tqgen_kernels import TurboQuantKVCache, emulator
from tqgen_kernels.autotuning import autotune, roads
from tqgen_kernels.autotuning.runner import DeviceRunner
from tqgen_kernels.cache.attention import plain_attention, scaled_dot_product_attention
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.model import AttentionShape, model_problems
from tqgen_kernels.codegen.problem import PrefillProblem
from tqgen_kernels.execution import kernels, registry
from tqgen_kernels.execution.prefill import prefill
from tqgen_kernels.quant.scheme import Scheme
from tqgen_kernels.tuning.database.select import Choice
from tqgen_kernels.tuning.record.buckets import bucketed
from tqgen_kernels.tuning.search.runner import road

PROBLEM = PrefillProblem(32, 32, 4, 3, heads=4, kv_heads=2, queries=128, context=1024)


@pytest.fixture(autouse=True)
def emulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))  # no records but its own
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    monkeypatch.setenv("TQGEN_STORAGE", "fragment")
    kernels.forget()
    with emulator.options(checks="fast"):
        yield
    kernels.forget()


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[PrefillProblem]:
    """As if a record had said that the default kernel is the fastest; the problems asked for."""
    asked = []
    choose = registry.choose

    def ours(problem: Any, backend: str) -> Choice:
        if not isinstance(problem, PrefillProblem):
            return choose(problem, backend)
        asked.append(problem)
        return Choice(FAMILIES["prefill"].default(problem), "exact record", "")

    monkeypatch.setattr(registry, "choose", ours)
    return asked


def attended(chunk: int, mask: Any, sinks: bool = False) -> tuple[mx.array, mx.array]:
    """A chunk after 220 tokens by the hook, and over the dequantised content."""
    rng = np.random.default_rng(0)

    def normal(heads: int, tokens: int) -> mx.array:
        return mx.array(rng.standard_normal((1, heads, tokens, 32)), mx.float16)

    cache = TurboQuantKVCache(scheme=Scheme.of(scheme="balanced", guard="off"))
    cache.append(normal(2, 220), normal(2, 220))
    k, v = cache.update_and_fetch(normal(2, chunk), normal(2, chunk))
    options: dict[str, Any] = {"scale": 32**-0.5, "mask": mask}
    options["sinks"] = mx.array(rng.uniform(0, 4, 4), mx.float16) if sinks else None
    q = normal(4, chunk)
    found = scaled_dot_product_attention(q, k, v, **options)
    return found, plain_attention(q, *cache.contents(), **options)


def error(found: mx.array, expected: mx.array) -> float:
    found, expected = found.astype(mx.float32), expected.astype(mx.float32)
    return float((mx.linalg.norm(found - expected) / mx.linalg.norm(expected)).item())


@pytest.mark.parametrize("storage", ["fragment", "tiles"])
@pytest.mark.parametrize("chunk", [9, 140])  # one that fits the window, one that does not
@pytest.mark.parametrize("mask", ["causal", None])
def test_the_chosen_kernel_answers(
    chosen: list[PrefillProblem],
    monkeypatch: pytest.MonkeyPatch,
    storage: str,
    chunk: int,
    mask: str | None,
) -> None:
    monkeypatch.setenv("TQGEN_STORAGE", storage)
    sinks = mask is None
    found, expected = attended(chunk, mask, sinks)
    assert error(found, expected) < 2e-3
    assert [(p.storage, p.heads, p.sinks) for p in chosen] == [(storage, 4, sinks)]
    assert chosen == [bucketed(p) for p in chosen]


def test_a_mask_of_ones_own_is_obeyed_without_it(chosen: list[PrefillProblem]) -> None:
    mask = mx.random.uniform(shape=(140, 360)) < 0.5
    found, expected = attended(140, mask)
    assert error(found, expected) < 2e-3
    assert chosen == []


def test_without_a_record_a_chunk_is_dequantised() -> None:
    choice = registry.kernel(PROBLEM).choice
    assert (choice.road, choice.origin) == ("sdpa", "default")
    found, expected = attended(140, "causal")
    assert error(found, expected) < 2e-3


def test_the_tuner_races_it_against_the_dequantised_road() -> None:
    assert roads.roads_of(PROBLEM) == ("sdpa",)
    runner = DeviceRunner("emulated", workers=0)
    for batch in (1, 2):
        prepared = runner.prepare(replace(PROBLEM, batch=batch, sinks=batch == 2), road("sdpa"))
        assert prepared.verification.passed, prepared.verification
    (record,) = autotune([PROBLEM], quick=True, seconds=4, backend="emulated", workers=0)
    names = {result.road for result in record.results if result.outcome == "correct"}
    assert names >= {None, "sdpa"}
    assert registry.kernel(PROBLEM).choice.origin == "exact record"
    # A larger context, for which nothing was measured, takes a kernel only if it won here.
    other = registry.kernel(replace(PROBLEM, context=4096)).choice
    assert (other.road == "sdpa") == (record.winner is None or record.winner.road == "sdpa")


def test_what_it_cannot_read_is_none() -> None:
    shape = (1, 2, 3, 32 // 32 * 4, 32)
    words, scales = mx.zeros(shape, mx.uint32), mx.zeros((1, 2, 3, 32), mx.float16)
    exact = mx.zeros((1, 2, 40, 32), mx.float16)
    from tqgen_kernels.backends.packed import Packed
    from tqgen_kernels.codegen.families.attend import Row

    store = Packed(
        words, scales, words, scales, exact, exact, (Row(2, 40),), 4, 4, 1, 2, "mixed", "fragment"
    )
    q = mx.zeros((1, 4, 20, 32), mx.float16)
    given: dict[str, Any] = {"scale": 1.0}
    kernel = registry.compile(
        replace(PROBLEM, value_bits=4), FAMILIES["prefill"].default(PROBLEM), "emulated"
    )
    assert prefill(q, store, kernel=kernel, **given) is not None
    assert prefill(q, store, **given) is None  # nobody chose one
    unseen = store._replace(rows=(Row(2, 40, 5),))
    short = store._replace(rows=(Row(2, 19),))
    for other in (unseen, short):
        assert prefill(q, other, kernel=kernel, **given) is None


def test_a_model_is_tuned_for_its_prompt_chunks() -> None:
    shape, scheme = AttentionShape(28, 4, 128, 128), Scheme.of(scheme="balanced")
    found = model_problems(shape, scheme, "float16", storage="fragment")
    chunks = [p for p in found if isinstance(p, PrefillProblem)]
    assert [p.context for p in chunks] == [4096, 16384]
    assert all((p.heads, p.kv_heads, p.queries) == (28, 4, 2048) for p in chunks)
    assert all(p.storage == "fragment" for p in chunks)
    found = model_problems(replace(shape, key_dim=80), scheme, "float16")
    assert not any(isinstance(p, PrefillProblem) for p in found)
