"""`tqgen eval`: what each cache costs in the model's answers, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .progress import bars


def evaluate(
    model: Annotated[
        str | None,
        typer.Option(help="mlx-lm model: a folder or a hub name. Default: the demo model."),
    ] = None,
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
    windows: Annotated[int, typer.Option(min=1, help="Windows of the text.")] = 4,
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
    fresh: Annotated[bool, typer.Option(help="Measure again what is in --out.")] = False,
    json: Annotated[bool, typer.Option(help="Print JSON instead of a table.")] = False,
) -> None:
    """Perplexity, KL divergence, top-1, greedy agreement and passkey for several caches."""
    from rich.console import Console

    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.files import write_atomically
    from tqgen_kernels.quality.contenders import DEFAULT_NAMES, contender
    from tqgen_kernels.quality.evaluate import Evaluation, Plan
    from tqgen_kernels.quality.evaluate import evaluate as measure
    from tqgen_kernels.quality.load import blas_advice, load_model
    from tqgen_kernels.quality.passkey import DEPTHS
    from tqgen_kernels.quality.report import as_json, markdown, plot, rows, tables
    from tqgen_kernels.quality.teacher import Steps

    steps = Steps(
        length, length // 2 if score_from is None else score_from, prefill_step, decode_step
    )
    names = list(dict.fromkeys((schemes or ",".join(DEFAULT_NAMES)).replace(" ", "").split(",")))
    names = ["fp16", *(name for name in names if name != "fp16")]  # all are compared with it
    words = read_text(text)
    console = Console(stderr=True)
    with bars(console) as progress:
        say = progress.console.print
        advice = blas_advice()
        if advice is not None:
            say(advice, highlight=False)
        loaded = load_model(model or str(demo_model(say=say, progress=progress.update)))
        contenders = [
            contender(name, loaded.kv_shapes, centre=centre, guard=guard) for name in names
        ]
        units = out / "units"
        if fresh:
            for path in units.glob("*.json"):
                path.unlink()
        plan = Plan(steps, windows, greedy, DEPTHS if passkey else ())
        tokens = loaded.tokenizer.encode(words, add_special_tokens=False, verbose=False)
        evaluation = Evaluation(loaded, tokens, plan, units, say, progress.update)
        result = rows(measure(evaluation, contenders))
    title = (
        f"{Path(loaded.name).name}: {windows} windows of {length} tokens, scored from position "
        f"{steps.score_from}, {str(loaded.dtype).rpartition('.')[2]}"
    )
    document = as_json(result, evaluation)
    write_atomically(out / "results.json", document.encode())
    write_atomically(out / "table.md", markdown(result).encode())
    try:
        plot(result, out / "kl-bits.png", title)
    except ImportError:
        console.print("no plot: matplotlib is missing; pip install 'tqgen-kernels[plot]'")
    if json:
        typer.echo(document)
    else:
        wide = Console()
        for each in tables(result, title, wide.width):
            wide.print(each)
        console.print(f"written to {out}: results.json, table.md, kl-bits.png", highlight=False)


def read_text(path: Path | None) -> str:
    """The text in a UTF-8 file, or the demo's. Raises ValueError and OSError."""
    from tqgen_kernels.demo.text import demo_text

    if path is None:
        return demo_text()
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
