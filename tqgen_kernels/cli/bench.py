"""`tqgen bench`: tokens a second and memory of a model, under several caches."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqgen_kernels.cli.options import Json, Model

if TYPE_CHECKING:
    from tqgen_kernels.quality.speed import Speed

DEFAULT_CACHES = "fp16,mlx-8,mlx-4,near-lossless,balanced,small"


def bench(
    model: Model = None,
    contexts: Annotated[
        str | None,
        typer.Option(help="Lengths, with commas. Default: 1024,8192; on a CPU 512,2048."),
    ] = None,
    caches: Annotated[str, typer.Option(help="Caches to compare, with commas.")] = DEFAULT_CACHES,
    batch: Annotated[int, typer.Option(min=1, help="Rows that decode together.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Tokens of a decode round.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Decode rounds, in turns.")] = 4,
    as_json: Json = False,
) -> None:
    """Measure prefill and decode speed, peak memory and cache bytes, fp16 beside compressed.

    "Fits" is the longest context whose cache fits into the device's memory beside the weights, as
    the cache grew between the row's context and the one before it.
    """
    import mlx.core as mx
    from rich.console import Console

    from tqgen_kernels.cli.progress import bars
    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.quality.contenders import contender
    from tqgen_kernels.quality.load import load_model
    from tqgen_kernels.quality.speed import measure_speed

    console = Console(stderr=True)
    small = mx.default_device() == mx.cpu
    lengths = _lengths(contexts or ("512,2048" if small else "1024,8192"))
    with bars(console) as progress:
        path = model or str(demo_model(say=progress.console.print, progress=progress.update))
        loaded = load_model(path)
        names = [name for name in caches.replace(" ", "").split(",") if name]
        contenders = [contender(name, loaded.kv_shapes) for name in names]
        vocabulary = int((loaded.config.get("text_config") or loaded.config)["vocab_size"])
        found = [
            speed
            for length in lengths
            for speed in measure_speed(
                loaded.model,
                contenders,
                length,
                vocabulary=vocabulary,
                batch=batch,
                steps=steps,
                rounds=rounds,
                progress=progress.update,
            )
        ]
    memory = _memory_bytes()
    rows = _rows(found, memory, loaded.weight_bytes)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    else:
        _print_table(rows, memory)


def _rows(found: list[Speed], memory: int, weights: int) -> list[dict[str, Any]]:
    """What was measured, and what follows from it for `memory` bytes."""
    from tqgen_kernels.quality.speed import longest_context

    plain = {speed.context: speed.decode for speed in found if speed.cache == "fp16"}
    rows = []
    for speed in found:
        row = {**asdict(speed), "times_fp16": None, "longest_context": None}
        if not speed.error:
            if plain.get(speed.context):
                row["times_fp16"] = speed.decode / plain[speed.context]
            held = sorted(
                (other.context, other.cache_bytes // other.batch)
                for other in found
                if other.cache == speed.cache and other.context <= speed.context and not other.error
            )
            row["longest_context"] = longest_context(memory, weights, held)
        rows.append(row)
    return rows


def _lengths(contexts: str) -> list[int]:
    try:
        lengths = [int(part) for part in contexts.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise ValueError(f"--contexts {contexts!r}: give lengths in tokens, as in 1024,8192.")
    return lengths


def _print_table(rows: list[dict[str, Any]], memory: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("context", "cache"):
        table.add_column(name)
    for name in ("prefill tok/s", "decode tok/s", "x fp16", "cache MB", "peak MB"):
        table.add_column(name, justify="right")
    table.add_column(f"fits {memory / 2**30:.0f} GiB, tokens", justify="right")
    for row in rows:
        first = str(row["context"]), row["cache"]
        if row["error"]:
            table.add_row(*first, row["error"])
            continue
        ratio = row["times_fp16"]
        table.add_row(
            *first,
            f"{row['prefill']:.0f}",
            f"{row['decode']:.1f}",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{row['cache_bytes'] / 1e6:.1f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['longest_context'] // 1000:,}k",
        )
    Console().print(table)


def _memory_bytes() -> int:
    """Of the device that MLX computes on; of the machine where MLX does not tell."""
    import os

    import mlx.core as mx

    info = mx.device_info()
    for name in ("max_recommended_working_set_size", "memory_size", "total_memory"):
        value = info.get(name)
        if isinstance(value, int) and value > 0:
            return value
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
