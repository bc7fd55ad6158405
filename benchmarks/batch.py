"""Decode steps of a batch of sequences of different lengths: cache and attention, nothing else.

Beside the packed batch: the same rows one after another, and mlx-lm's fp16 batch cache, which pads
every row to the longest. A step appends a token to each row and attends, in every layer; a layer's
queries depend on the layer before. Building a step is timed too: it is the host's share. Run it as

    python benchmarks/batch.py [--quick] [--output batch.json]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import typer
from mlx_lm.models.base import scaled_dot_product_attention
from mlx_lm.models.cache import KVCache
from timing import report

from tqgen_kernels import TurboQuantKVCache, apply_patch
from tqgen_kernels.backends import default_name
from tqgen_kernels.cache.batch import BatchTurboQuantKVCache
from tqgen_kernels.cache.stack import Stack

ALLOWED = 2e-3  # relative L2 of rows together against rows one by one, float16


@dataclass(frozen=True)
class Case:
    """lengths: tokens of each sequence; heads share kv_heads."""

    lengths: tuple[int, ...]
    heads: int = 32
    kv_heads: int = 8
    head_dim: int = 128
    layers: int = 16
    scheme: str = "balanced"

    def __str__(self) -> str:
        short, most = min(self.lengths), max(self.lengths)
        return f"{len(self.lengths)} rows of {short} to {most}, {self.layers} layers"


CASES = (
    Case((16384,) * 8),
    Case((1024, 2048, 4096, 6144, 8192, 10240, 12288, 16384)),
    Case(tuple(range(512, 4608, 128)), layers=8),
    Case((300, 500, 700, 900)),
)
QUICK = (CASES[1], CASES[3])
TINY = (Case((150, 70), 4, 2, 64, 2),)


@dataclass
class Contender:
    name: str
    caches: list[Any]
    apart: bool = False  # rows one after another


def filled(case: Case, make: Callable[[], Any]) -> list[Any]:
    """A batch cache a layer, of caches that have seen random prompts."""
    dtype = mx.float16
    layers = []
    for layer in range(case.layers):
        rows = []
        for i, tokens in enumerate(case.lengths):
            shape = (1, case.kv_heads, tokens, case.head_dim)
            key = mx.random.key(1000 * layer + i)
            keys = mx.random.normal(shape, dtype, key=key)
            cache = make()
            cache.update_and_fetch(keys, keys[..., ::-1])
            mx.eval(cache.state)
            rows.append(cache)
        layers.append(type(rows[0]).merge(rows))
        mx.eval(layers[-1].state)
    return layers


def step(case: Case, caches: list[Any], q: mx.array, x: mx.array) -> mx.array:
    """A decode step of all layers: the last one's output."""
    mask = caches[0].make_mask(1)
    for cache in caches:
        q = attention(cache, q, x, case.head_dim**-0.5, mask)
    return q


def attention(cache: Any, q: mx.array, x: mx.array, scale: float, mask: Any) -> mx.array:
    """As a model's layer calls it: what follows shows that nothing but attention sees the keys."""
    keys, values = cache.update_and_fetch(x, x)
    return scaled_dot_product_attention(q, keys, values, cache=cache, scale=scale, mask=mask)


def inputs(case: Case) -> tuple[mx.array, mx.array]:
    rows = len(case.lengths)
    q = mx.random.normal((rows, case.heads, 1, case.head_dim), mx.float16)
    x = mx.random.normal((rows, case.kv_heads, 1, case.head_dim), mx.float16)
    mx.eval(q, x)
    return q, x


def measured(case: Case, contender: Contender, steps: int) -> tuple[float, float]:
    """Medians of milliseconds a step, and of what building its graph takes of them."""
    q, x = inputs(case)
    kept = Stack.of
    if contender.apart:
        Stack.of = lambda stores: None  # type: ignore[method-assign,assignment]
    try:
        times, hosts = [], []
        for i in range(steps + 3):
            start = time.perf_counter()
            out = step(case, contender.caches, q, x)
            built = time.perf_counter()
            mx.eval(out)
            if i >= 3:  # compiled and stacked by then
                times.append(1000 * (time.perf_counter() - start))
                hosts.append(1000 * (built - start))
    finally:
        Stack.of = kept  # type: ignore[method-assign]
    return sorted(times)[len(times) // 2], sorted(hosts)[len(hosts) // 2]


def error(case: Case, contender: Contender) -> float:
    """Of the first layer's attention, all rows at once against each row alone."""
    q, x = inputs(case)
    cache: BatchTurboQuantKVCache = contender.caches[0]
    together = step(case, [cache], q, x).astype(mx.float32)
    for other in contender.caches[1:]:
        other.update_and_fetch(x, x)
    alone = []
    for i, row in enumerate(cache.rows):
        out = row.attend(q[i : i + 1], case.head_dim**-0.5, None)
        alone.append(together[i : i + 1] if out is None else out.astype(mx.float32))
    difference = together - mx.concatenate(alone)
    return float(mx.linalg.norm(difference) / mx.linalg.norm(together))


def main(
    quick: Annotated[bool, typer.Option(help="Two cases, few steps.")] = False,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("batch.json"),
) -> None:
    """Decode steps of batches of mixed lengths."""
    apply_patch()
    backend = default_name()
    on_gpu = mx.default_device() != mx.cpu
    rows = []
    for case in (QUICK if quick else CASES) if on_gpu else TINY:
        plain: Any = KVCache
        kinds: tuple[tuple[str, Callable[[], Any], bool], ...] = (
            ("together", lambda case=case: TurboQuantKVCache(scheme=case.scheme), False),  # type: ignore[misc]
            ("one by one", lambda case=case: TurboQuantKVCache(scheme=case.scheme), True),  # type: ignore[misc]
            ("fp16 padded", plain, False),
        )
        found: dict[str, Any] = {"case": str(case)}
        for name, make, apart in kinds:
            contender = Contender(name, filled(case, make), apart)
            if name == "together":
                found["error"] = error(case, contender)
                if found["error"] > ALLOWED:
                    raise SystemExit(f"{case}: rows together are off by {found['error']:.2g}.")
            ms, host = measured(case, contender, 10 if quick else 40)
            found[f"{name} ms"], found[f"{name} host ms"] = ms, host
            del contender
            mx.clear_cache()
        rows.append(found)
    names = ("together", "one by one", "fp16 padded")
    columns = ["case", "error", *(f"{n} {unit}" for n in names for unit in ("ms", "host ms"))]
    report("A decode step of a batch", backend, columns, rows, output)


if __name__ == "__main__":
    typer.run(main)
