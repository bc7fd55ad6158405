"""`tqgen demo`: a real model with the fp16 and with a compressed cache, side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tqgen_kernels.cli.options import Json
from tqgen_kernels.cli.progress import bars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.table import Table

    from tqgen_kernels.demo.comparison import Side, Sizes
    from tqgen_kernels.demo.kernels import Chosen
    from tqgen_kernels.quality.load import LoadedModel


def demo(
    model: Annotated[
        str | None,
        typer.Option(help="mlx-lm model: a folder or a hub name. Default: SmolLM2-135M-Instruct."),
    ] = None,
    scheme: Annotated[str, typer.Option(help="Compressed cache, by name or kXvY.")] = "balanced",
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the answer. Default: 48 on a CPU, 128.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a model once, tune its kernels, answer with both caches, print one table."""
    import dataclasses

    from rich.console import Console

    from tqgen_kernels.demo.comparison import answers, compare, default_sizes
    from tqgen_kernels.demo.kernels import chosen, demo_problems, tune
    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.demo.text import demo_text
    from tqgen_kernels.quality.contenders import scheme_of
    from tqgen_kernels.quality.load import blas_advice, load_model

    chosen_scheme = scheme_of(scheme)
    console = Console(stderr=True)
    with bars(console) as progress:
        say = progress.console.print
        path = model or str(demo_model(say=say, progress=progress.update))
        loaded = load_model(path)
        problems = demo_problems(loaded, chosen_scheme)
        records = tune(problems, say, progress.update)
    sizes = default_sizes()
    if tokens is not None:
        sizes = dataclasses.replace(sizes, answer=tokens)
    advice = blas_advice()
    if advice is not None:
        console.print(advice, highlight=False)
    text = demo_text()
    answered = answers(loaded, scheme, text, sizes, _streamer(console))
    console.print()
    with bars(console) as progress:
        sides = compare(loaded, scheme, text, sizes, answered, progress.update)
    kernels = chosen(problems, records)
    if as_json:
        caches = [dataclasses.asdict(side) for side in sides]
        document = {
            "model": loaded.name,
            "caches": caches,
            "kernels": [dataclasses.asdict(row) for row in kernels],
        }
        typer.echo(json.dumps(document, indent=1))
        return
    out = Console()
    out.print(_cache_table(sides, loaded, sizes))
    out.print(_kernel_table(kernels))


def _streamer(console: Console) -> Callable[[str, str], None]:
    """Prints an answer piece by piece, with a heading where another cache begins."""
    heard: list[str] = []

    def show(cache: str, piece: str) -> None:
        if heard[-1:] != [cache]:
            heard.append(cache)
            console.print(f"\n\n[bold]{cache} cache:[/bold] ", end="")
        console.out(piece, end="", highlight=False)
        console.file.flush()

    return show


def _cache_table(sides: Sequence[Side], loaded: LoadedModel, sizes: Sizes) -> Table:
    from pathlib import Path

    from rich.table import Table

    from tqgen_kernels.demo.comparison import STORED_TOKENS

    weights = f"{loaded.weight_bytes / 1e6:,.0f} MB"
    scored = sizes.window.length - sizes.window.score_from
    lines: list[tuple[str, Callable[[Side], str]]] = [
        (f"bytes per token ({STORED_TOKENS} tokens)", lambda s: f"{s.bytes_per_token:,.0f}"),
        ("compression", lambda s: f"{s.compression:.2f}x"),
        ("prompt tokens/s", lambda s: f"{s.prompt_tokens_per_second:.1f}"),
        ("decode tokens/s", lambda s: f"{s.tokens_per_second:.1f}"),
        (f"peak memory (weights {weights})", lambda s: f"{s.peak_bytes / 1e6:,.0f} MB"),
        (f"perplexity ({scored} tokens)", lambda s: f"{s.perplexity:.2f}"),
        ("KL divergence from fp16", lambda s: f"{s.kl_mean:.4f}"),
        ("same most likely token", lambda s: f"{s.top1:.1f} %"),
        ("equal greedy tokens", lambda s: f"{s.equal_choices} of {s.answer_tokens}"),
        ("until the answers part", lambda s: f"{s.equal_prefix} of {s.answer_tokens}"),
    ]
    name = Path(loaded.name).name
    table = Table(title=f"{name}: the same model with two caches", title_justify="left")
    table.add_column("")
    for side in sides:
        table.add_column(side.cache, justify="right")
    for label, cell in lines:
        table.add_row(label, *(cell(side) for side in sides))
    return table


def _kernel_table(rows: Sequence[Chosen]) -> Table:
    from rich.table import Table

    table = Table(title="What runs for each kernel problem, and why", title_justify="left")
    for column in ("kernel", "runs", "chosen by", "why", "candidates tried"):
        table.add_column(column, overflow="fold", no_wrap=column == "kernel")
    for row in rows:
        table.add_row(row.kernel, row.runs, row.origin, row.why, row.tuning)
    return table
