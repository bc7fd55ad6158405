"""`tqgen eval`: what each cache costs in the model's answers, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tqgen_kernels.cli.options import Fresh, Json, Model, Windows, read_text
from tqgen_kernels.cli.progress import bars

if TYPE_CHECKING:
    from tqgen_kernels.quality.evaluate import Evaluation, Plan
    from tqgen_kernels.quality.report import Row


def evaluate(
    model: Model = None,
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text file. Default: the demo's text.")
    ] = None,
    schemes: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated caches: fp16, mlx-8, mlx-4, mlx-3, a named scheme, kXvY "
            "(X key bits, Y value bits), or a scheme file. Default: all of the named ones."
        ),
    ] = None,
    centre: Annotated[
        bool, typer.Option(help="Pack keys without the vector that they have in common.")
    ] = True,
    guard: Annotated[
        str | None, typer.Option(help="on, warn or off: what a layer gets that its scheme breaks.")
    ] = None,
    windows: Windows = 4,
    length: Annotated[int, typer.Option(min=16, help="Tokens a window.")] = 2048,
    score_from: Annotated[
        int | None, typer.Option(min=0, help="First scored position. Default: half the window.")
    ] = None,
    prefill_step: Annotated[
        int, typer.Option(min=1, help="Tokens a chunk before score_from.")
    ] = 512,
    decode_step: Annotated[
        int,
        typer.Option(
            min=1,
            help="Tokens a chunk from score_from on. Up to 8, attention reads the packed cache as "
            "in decoding; larger is faster and flatters small residual windows.",
        ),
    ] = 8,
    greedy: Annotated[int, typer.Option(min=0, help="Greedy tokens compared; 0: none.")] = 256,
    passkey: Annotated[bool, typer.Option(help="Look for a hidden number at ten depths.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for results; a second run goes on in it.")] = (
        Path("tqgen-eval")
    ),
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Perplexity, KL divergence, top-1, greedy agreement and passkey for several caches."""
    from tqgen_kernels.quality.contenders import DEFAULT_NAMES
    from tqgen_kernels.quality.evaluate import Plan
    from tqgen_kernels.quality.passkey import DEPTHS
    from tqgen_kernels.quality.teacher import Steps

    steps = Steps(
        length, length // 2 if score_from is None else score_from, prefill_step, decode_step
    )
    names = list(dict.fromkeys((schemes or ",".join(DEFAULT_NAMES)).replace(" ", "").split(",")))
    names = ["fp16", *(name for name in names if name != "fp16")]  # all are compared with it
    plan = Plan(steps, windows, greedy, DEPTHS if passkey else ())
    words, units = read_text(text), out / "units"
    evaluation, rows = _measured(model, words, names, plan, units, centre, guard, fresh)
    _written(evaluation, rows, out, as_json)


def _measured(
    model: str | None,
    words: str,
    names: list[str],
    plan: Plan,
    units: Path,
    centre: bool,
    guard: str | None,
    fresh: bool,
) -> tuple[Evaluation, list[Row]]:
    """A row a cache; what the folder `units` holds is not measured again, unless `fresh`."""
    from rich.console import Console

    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.quality.contenders import contender
    from tqgen_kernels.quality.evaluate import Evaluation
    from tqgen_kernels.quality.evaluate import evaluate as measure
    from tqgen_kernels.quality.load import blas_advice, load_model
    from tqgen_kernels.quality.report import rows

    with bars(Console(stderr=True)) as progress:
        say = progress.console.print
        advice = blas_advice()
        if advice is not None:
            say(advice, highlight=False)
        loaded = load_model(model or str(demo_model(say=say, progress=progress.update)))
        contenders = [
            contender(name, loaded.kv_shapes, centre=centre, guard=guard) for name in names
        ]
        if fresh:
            for path in units.glob("*.json"):
                path.unlink()
        tokens = loaded.tokenizer.encode(words, add_special_tokens=False, verbose=False)
        evaluation = Evaluation(loaded, tokens, plan, units, say, progress.update)
        return evaluation, rows(measure(evaluation, contenders))


def _written(evaluation: Evaluation, rows: list[Row], out: Path, as_json: bool) -> None:
    """To the folder `out`, and to the terminal."""
    from rich.console import Console

    from tqgen_kernels.files import write_atomically
    from tqgen_kernels.quality import report

    plan, loaded = evaluation.plan, evaluation.loaded
    title = (
        f"{Path(loaded.name).name}: {plan.windows} windows of {plan.steps.length} tokens, scored "
        f"from position {plan.steps.score_from}, {str(loaded.dtype).rpartition('.')[2]}"
    )
    document = report.as_json(rows, evaluation)
    write_atomically(out / "results.json", document.encode())
    write_atomically(out / "table.md", report.markdown(rows).encode())
    try:
        report.plot(rows, out / "kl-bits.png", title)
    except ImportError:
        Console(stderr=True).print(
            "no plot: matplotlib is missing; pip install 'tqgen-kernels[plot]'"
        )
    if as_json:
        typer.echo(document)
        return
    console = Console()
    for each in report.tables(rows, title, console.width):
        console.print(each)
    console.print(f"written to {out}: results.json, table.md, kl-bits.png", highlight=False)
