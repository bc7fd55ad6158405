"""`tqgen calibrate`: a scheme for each layer of a model, within a budget of bits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqgen_kernels.cli.options import Fresh, Json, Model, Windows, read_text
from tqgen_kernels.cli.progress import bars

if TYPE_CHECKING:
    from rich.table import Table

    from tqgen_kernels.quality.allocation import Allocation, Cost
    from tqgen_kernels.quality.teacher import Steps
    from tqgen_kernels.quant.scheme import Scheme


def calibrate(
    model: Model = None,
    bits_per_value: Annotated[
        float, typer.Option(help="The budget: mean bits of a stored value, its scale included.")
    ] = 3.25,
    text: Annotated[
        Path | None,
        typer.Option(help="UTF-8 text like the one you work with. Default: the demo's text."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The scheme file, which ends in .json: for --scheme and scheme=.")
    ] = Path("tqgen-scheme.json"),
    windows: Windows = 4,
    prompt: Annotated[int, typer.Option(min=128, help="Tokens before those that count.")] = 1024,
    scored: Annotated[int, typer.Option(min=1, help="Tokens of a window that count.")] = 64,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Measure how much each layer's keys and values matter, and spend the bits where they do."""
    from dataclasses import asdict

    from rich.console import Console

    from tqgen_kernels.quality.allocation import allocate
    from tqgen_kernels.quality.teacher import Steps
    from tqgen_kernels.quant.layered import SUFFIX, LayeredScheme, write_scheme
    from tqgen_kernels.quant.scheme import Scheme

    if out.suffix != SUFFIX:
        raise ValueError(f"--out {out}: a scheme file must end in {SUFFIX}, to be known as one.")
    base, steps = Scheme(), Steps(prompt + scored, prompt, decode_step=32)
    name, costs = _costs(model, read_text(text), steps, windows, base, fresh)
    found = allocate(costs, bits_per_value)
    layers = tuple(replace(base, key_bits=k, value_bits=v) for k, v in found.bits)
    about: dict[str, Any] = {
        "model": name,
        "bits_per_value": found.bits_per_value,
        "expected_kl": found.kl,
        "text_tokens": windows * steps.length,
        "costs": [asdict(cost) for cost in costs],
    }
    write_scheme(out, LayeredScheme(layers), about)
    if as_json:
        typer.echo(json.dumps({"bits": found.bits, **about, "file": str(out)}, indent=1))
        return
    console = Console()
    console.print(_table(costs, found))
    console.print(
        f"{found.bits_per_value:.2f} bits a value; expected KL {found.kl:.4f}. "
        f"Written to {out}: use it with --scheme {out}",
        highlight=False,
    )


def _costs(
    model: str | None, words: str, steps: Steps, windows: int, base: Scheme, fresh: bool
) -> tuple[str, list[Cost]]:
    """The model's name, and what its layers' keys and values cost at each number of bits."""
    from rich.console import Console

    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.files import cache_dir
    from tqgen_kernels.quality.load import blas_advice, load_model
    from tqgen_kernels.quality.sensitivity import Calibration, sensitivities

    with bars(Console(stderr=True)) as progress:
        say = progress.console.print
        advice = blas_advice()
        if advice is not None:
            say(advice, highlight=False)
        loaded = load_model(model or str(demo_model(say=say, progress=progress.update)))
        tokens = loaded.tokenizer.encode(words, add_special_tokens=False, verbose=False)
        folder = cache_dir() / "calibration"
        calibration = Calibration(
            loaded, tokens, steps, windows, base, folder, fresh, say, progress.update
        )
        return Path(loaded.name).name, list(sensitivities(calibration))


def _table(costs: Sequence[Cost], found: Allocation) -> Table:
    from rich.table import Table

    table = Table(title="What each layer's keys and values cost, and get", title_justify="left")
    for column in ("layer", "key KL at 4 bits", "key bits", "value KL at 4 bits", "value bits"):
        table.add_column(column, justify="right")
    by_place = {(cost.layer, cost.side): cost for cost in costs}
    for layer, (keys, values) in enumerate(found.bits):
        table.add_row(
            str(layer),
            f"{by_place[layer, 'key'].at(4):.1e}",
            str(keys),
            f"{by_place[layer, 'value'].at(4):.1e}",
            str(values),
        )
    return table
