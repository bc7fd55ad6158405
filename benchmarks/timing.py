"""What every benchmark here shares: chains of dependent launches, timed there and back again.

A GPU may run independent launches at once, so that n of them say little about one. Each contender
therefore builds a chain in which a launch reads what the one before it wrote.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from rich.console import Console
from rich.table import Table

from tqgen_kernels.files import write_atomically
from tqgen_kernels.tuning.record.environment import detect

LARGER_THAN_CACHE = 192 * 2**20  # bytes of inputs to rotate through


@dataclass(frozen=True)
class Contender:
    """chain(n): the last output, lazy, of n launches of which each depends on the one before."""

    name: str
    chain: Callable[[int], mx.array]


Sample = Callable[[Contender, int], float]


@dataclass(frozen=True)
class Timing:
    """Seconds per launch: the median over samples, and the quartiles."""

    median: float
    low: float
    high: float


def copies(nbytes: int, backend: str) -> int:
    """How many sets of inputs of `nbytes` to rotate through: more than a cache holds."""
    return 1 if backend == "emulated" else max(1, min(32, ceil(LARGER_THAN_CACHE / nbytes)))


def compare(
    contenders: Sequence[Contender], backend: str, *, rounds: int, seconds: float, most: int = 400
) -> dict[str, Timing]:
    """Medians of all contenders, sampled in the order A B C C B A, `rounds` times.

    seconds: how long one sample should last. Building the chain is not timed, evaluating it is;
    but for the emulator, which computes as the chain is built.
    """
    sample = _eager_sample if backend == "emulated" else _sample
    launches = {c.name: _launches(sample, c, seconds, most) for c in contenders}
    samples: dict[str, list[float]] = {c.name: [] for c in contenders}
    for _ in range(rounds):
        for contender in [*contenders, *reversed(contenders)]:
            n = launches[contender.name]
            samples[contender.name].append(sample(contender, n) / n)
    return {name: _timing(values) for name, values in samples.items()}


def _sample(contender: Contender, n: int) -> float:
    last = contender.chain(n)
    start = time.perf_counter()
    mx.eval(last)
    return time.perf_counter() - start


def _eager_sample(contender: Contender, n: int) -> float:
    start = time.perf_counter()
    mx.eval(contender.chain(n))
    return time.perf_counter() - start


def _launches(sample: Sample, contender: Contender, seconds: float, most: int) -> int:
    sample(contender, 2)  # compiles
    n = 1
    for _ in range(3):
        n = max(1, min(most, ceil(seconds / (sample(contender, n) / n))))
    return n


def _timing(values: list[float]) -> Timing:
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)


def after(array: mx.array, output: mx.array) -> mx.array:
    """`array` (4-byte elements, at most 8) unchanged, but not before `output` is there."""
    bytes_per_element = output.itemsize
    first = output.reshape(-1)[: array.nbytes // bytes_per_element]
    return mx.where(mx.array(False), first.view(array.dtype), array)


def tick(array: mx.array) -> Contender:
    """The launch that `after` adds, alone."""

    def chain(n: int) -> mx.array:
        out = array
        for _ in range(n):
            out = after(array, out)
        return out

    return Contender("after", chain)


def report(
    title: str,
    backend: str,
    columns: Sequence[str],
    rows: Sequence[dict[str, Any]],
    output: Path,
) -> None:
    """Prints the table, and writes it with its environment as JSON to `output`."""
    environment = msgspec.to_builtins(detect(backend))
    table = Table(title=f"{title}, {environment['device']}, MLX {environment['mlx']}")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(width=200).print(table)
    document = {"title": title, "environment": environment, "rows": rows}
    write_atomically(output, (json.dumps(document, indent=1) + "\n").encode())
    Console(width=200).print(f"Written to {output}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
