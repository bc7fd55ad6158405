"""Speed and memory of a model under several caches, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import mlx.core as mx

from .contenders import Contender

PREFILL_CHUNK = 2048
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Speed:
    """One cache at one context length.

    prefill and decode: tokens a second over all rows, decode the median of its rounds.
    cache_bytes: all that the caches hold; peak_bytes: the most that MLX held during prefill and
    decode, weights included. error: why the cache could not run, else "".
    """

    cache: str
    context: int
    batch: int
    prefill: float = 0.0
    decode: float = 0.0
    cache_bytes: int = 0
    peak_bytes: int = 0
    error: str = ""


@dataclass
class _Run:
    contender: Contender
    cache: list[Any]
    token: mx.array
    prefill: float
    peak: int
    rates: list[float]


def measure_speed(
    model: Any,
    contenders: Sequence[Contender],
    context: int,
    *,
    vocabulary: int,
    batch: int = 1,
    steps: int = 32,
    rounds: int = 4,
    seed: int = 0,
    kv_shapes: Sequence[tuple[int, int, int]] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> list[Speed]:
    """Prefills each cache with the same random tokens, then decodes in turns, there and back.

    kv_shapes, (kv_heads, key_dim, value_dim) a layer: fill the caches with random keys and values
    of these shapes instead, which says nothing of prefill and takes a moment at any context.

    All caches are held at once, so that drift of clock and memory falls on all alike. A cache that
    raises is reported with its error; the others go on.
    """
    mx.random.seed(seed)
    prompt = mx.random.randint(0, vocabulary, (batch, context))
    mx.eval(prompt)
    runs: list[_Run] = []
    failed: dict[str, str] = {}
    for i, contender in enumerate(contenders):
        progress(f"prefill {context}", i, len(contenders))
        try:
            runs.append(
                _prefill(model, contender, prompt)
                if kv_shapes is None
                else _fill(model, contender, prompt, kv_shapes)
            )
        except Exception as error:  # the cache is what is on trial
            failed[contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    progress(f"prefill {context}", len(contenders), len(contenders))
    for i in range(rounds):
        progress(f"decode {context}", i, rounds)
        for run in runs if i % 2 == 0 else list(reversed(runs)):
            try:
                _decode(model, run, steps)
            except Exception as error:
                failed[run.contender.name] = f"{type(error).__name__}: {error}".splitlines()[0]
        runs = [run for run in runs if run.contender.name not in failed]
    progress(f"decode {context}", rounds, rounds)
    done = {run.contender.name: _speed(run, context, batch) for run in runs}
    return [
        done.get(c.name, Speed(c.name, context, batch, error=failed.get(c.name, "")))
        for c in contenders
    ]


def _prefill(model: Any, contender: Contender, prompt: mx.array) -> _Run:
    cache = contender.factory(model)
    mx.clear_cache()
    mx.reset_peak_memory()
    start = time.perf_counter()
    logits = None
    for first in range(0, prompt.shape[1], PREFILL_CHUNK):
        logits = model(prompt[:, first : first + PREFILL_CHUNK], cache=cache)
        mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    assert logits is not None
    token = mx.argmax(logits[:, -1], axis=-1)
    mx.eval(token)
    seconds = time.perf_counter() - start
    run = _Run(contender, cache, token, prompt.size / seconds, mx.get_peak_memory(), [])
    _step(model, run, 2)  # compiles what the first tokens need
    return run


def _fill(
    model: Any, contender: Contender, prompt: mx.array, kv_shapes: Sequence[tuple[int, int, int]]
) -> _Run:
    cache = contender.factory(model)
    batch, context = prompt.shape
    dtype = model(prompt[:1, :1]).dtype
    mx.clear_cache()
    mx.reset_peak_memory()
    for layer, (heads, key_dim, value_dim) in zip(cache, kv_shapes, strict=True):
        for first in range(0, context, PREFILL_CHUNK):
            n = min(PREFILL_CHUNK, context - first)
            keys = mx.random.normal((batch, heads, n, key_dim)).astype(dtype)
            values = mx.random.normal((batch, heads, n, value_dim)).astype(dtype)
            layer.update_and_fetch(keys, values)
            mx.eval(layer.state)
        mx.clear_cache()
    token = prompt[:, -1]
    run = _Run(contender, cache, token, 0.0, mx.get_peak_memory(), [])
    _step(model, run, 2)
    return run


def _step(model: Any, run: _Run, steps: int) -> None:
    """`steps` tokens, each asked for before the one before is there, as mlx-lm generates."""
    previous = run.token
    for _ in range(steps):
        logits = model(run.token[:, None], cache=run.cache)
        run.token = mx.argmax(logits[:, -1], axis=-1)
        mx.async_eval(run.token)  # type: ignore[no-untyped-call]
        mx.eval(previous)
        previous = run.token
    mx.eval(run.token)


def _decode(model: Any, run: _Run, steps: int) -> None:
    mx.reset_peak_memory()
    start = time.perf_counter()
    _step(model, run, steps)
    run.rates.append(steps * run.token.size / (time.perf_counter() - start))
    run.peak = max(run.peak, mx.get_peak_memory())


def _speed(run: _Run, context: int, batch: int) -> Speed:
    return Speed(
        run.contender.name,
        context,
        batch,
        run.prefill,
        median(run.rates),
        sum(int(layer.nbytes) for layer in run.cache),
        run.peak,
    )


def longest_context(memory: int, weights: int, held: Sequence[tuple[int, int]]) -> int:
    """Tokens of one row that fit into `memory` bytes beside the weights.

    held: (context, bytes of one row's cache) as measured, ascending. What a further token takes is
    read off the two longest contexts; off one alone it is a proportion, which counts what a cache
    allocates at any length (exact windows, slack) as if it grew.
    """
    context, size = held[-1]
    each = size / context
    if len(held) > 1 and size > held[-2][1]:
        each = (size - held[-2][1]) / (context - held[-2][0])
    return max(0, int(context + (memory - weights - size) / each))
