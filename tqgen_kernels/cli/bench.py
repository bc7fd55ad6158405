"""`tqgen bench`: tokens a second and memory of a model, under several caches."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tqgen_kernels.quality.speed import Speed

DEFAULT_CACHES = "fp16,mlx-8,mlx-4,near-lossless,balanced,small"


def bench(
    model: Annotated[
        str, typer.Option(help="An mlx-lm model: path or hub name; the demo model if left out.")
    ] = "",
    contexts: Annotated[str, typer.Option(help="Context lengths, with commas.")] = "1024,8192",
    caches: Annotated[str, typer.Option(help="Caches to compare, with commas.")] = DEFAULT_CACHES,
    batch: Annotated[int, typer.Option(min=1, help="Rows that decode together.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Tokens of a decode round.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Decode rounds, in turns.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure prefill and decode speed, peak memory and cache bytes, fp16 beside compressed."""
    from rich.console import Console

    from tqgen_kernels.cli.progress import bars
    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.quality.contenders import contender
    from tqgen_kernels.quality.load import load_model
    from tqgen_kernels.quality.speed import measure_speed

    console = Console(stderr=True)
    lengths = _lengths(contexts)
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
    weights = _weight_bytes(loaded.model)
    if as_json:
        typer.echo(json.dumps([asdict(speed) for speed in found], indent=1))
    else:
        _print_table(found, weights)


def _lengths(contexts: str) -> list[int]:
    try:
        lengths = [int(part) for part in contexts.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise ValueError(f"--contexts {contexts!r}: give lengths in tokens, as in 1024,8192.")
    return lengths


def _weight_bytes(model: Any) -> int:
    from mlx.utils import tree_flatten

    arrays: Any = tree_flatten(model.parameters())
    return sum(array.nbytes for _, array in arrays)


def _print_table(found: list[Speed], weights: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from tqgen_kernels.quality.speed import longest_context

    memory = _memory_bytes()
    table = Table(
        "context", "cache", "prefill tok/s", "decode tok/s", "x fp16", "cache MB", "peak MB"
    )
    table.add_column(f"longest context in {memory / 2**30:.0f} GiB", justify="right")
    for speed in found:
        if speed.error:
            table.add_row(str(speed.context), speed.cache, speed.error, *[""] * 5)
            continue
        base = [s.decode for s in found if s.context == speed.context and s.cache == "fp16"]
        ratio = f"{speed.decode / base[0]:.2f}" if base and base[0] else "-"
        longest = longest_context(memory, weights, speed.cache_bytes // speed.batch, speed.context)
        table.add_row(
            str(speed.context),
            speed.cache,
            f"{speed.prefill:.0f}",
            f"{speed.decode:.1f}",
            ratio,
            f"{speed.cache_bytes / 1e6:.1f}",
            f"{speed.peak_bytes / 1e6:.0f}",
            f"{longest:,}",
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
