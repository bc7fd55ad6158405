"""`tqgen autotune`: the fastest verified variant of each problem on this device."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqgen_kernels.cli.options import Backend, Json

if TYPE_CHECKING:
    from rich.console import Console

    from tqgen_kernels.codegen.problem import Problem
    from tqgen_kernels.quant.layered import LayeredScheme
    from tqgen_kernels.quant.scheme import Scheme
    from tqgen_kernels.tuning.record.record import Record, Result
    from tqgen_kernels.tuning.search.tuner import Progress


Texts = Annotated[list[str] | None, typer.Argument(help="As in dequantize:head_dim=128,bits=3.")]
TunedModel = Annotated[
    str | None, typer.Option(help="The problems of this mlx-lm model: a folder or a hub name.")
]
Bundled = Annotated[bool, typer.Option(help="The problems that records ship for.")]
SchemeName = Annotated[
    str | None, typer.Option(help="Name or file; --key-bits and --value-bits instead of it.")
]
Bits = Annotated[int | None, typer.Option(help="1 to 8.")]
HeadDim = Annotated[int | None, typer.Option(help="Instead of --model.")]
KvHeads = Annotated[int, typer.Option(min=1, help="With --head-dim.")]
Gqa = Annotated[int, typer.Option(min=1, help="Query heads a key/value head, with --head-dim.")]
Dtype = Annotated[
    str | None, typer.Option(help="float16, bfloat16 or float32; the model's if left out.")
]
Contexts = Annotated[
    list[int] | None, typer.Option(help="Tokens to tune attention for; may be repeated.")
]
Count = Annotated[int, typer.Option(min=1)]
QLen = Annotated[int, typer.Option(min=1, max=8, help="Query tokens a step.")]
BudgetText = Annotated[
    str, typer.Option(help="Time for all problems together: 60s, 5m; 'none' for no limit.")
]
Quick = Annotated[bool, typer.Option(help="Few candidates, few samples.")]
StrategyName = Annotated[str, typer.Option(help="guided, exhaustive, halving, random.")]
Again = Annotated[bool, typer.Option(help="Measure anew what is already stored.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=64,
        help="Processes that compile and verify candidates; what suits the device if left out.",
    ),
]


def autotune(
    problems: Texts = None,
    model: TunedModel = None,
    bundled: Bundled = False,
    scheme: SchemeName = None,
    key_bits: Bits = None,
    value_bits: Bits = None,
    head_dim: HeadDim = None,
    kv_heads: KvHeads = 8,
    gqa: Gqa = 4,
    dtype: Dtype = None,
    context: Contexts = None,
    batch: Count = 1,
    q_len: QLen = 1,
    budget: BudgetText = "2m",
    quick: Quick = False,
    strategy: StrategyName = "guided",
    again: Again = False,
    jobs: Jobs = None,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Compile, verify and time candidates; store the fastest of each problem.

    Only what agrees with the float64 reference is timed. Ctrl-C keeps what was measured, and the
    same command goes on from there.
    """
    from rich.console import Console

    from tqgen_kernels.autotuning import autotune as tune
    from tqgen_kernels.quant.layered import scheme_of
    from tqgen_kernels.tuning.search.budget import parse_seconds
    from tqgen_kernels.tuning.search.strategy import strategy as strategy_of

    seconds = None if budget == "none" else parse_seconds(budget)
    sizes = {"contexts": tuple(context)} if context else {}
    wanted = _problems(
        problems or [],
        bundled=bundled,
        model=model,
        head_dim=head_dim,
        shape=(kv_heads, gqa),
        scheme=scheme_of(key_bits=key_bits, value_bits=value_bits, scheme=scheme),
        dtype=dtype,
        sizes={**sizes, "batch": batch, "q_len": q_len},
    )
    console = Console(stderr=True)
    name = _working_backend(backend, console)
    try:
        with _bars(console, len(wanted)) as show:
            records = tune(
                wanted,
                seconds=seconds,
                quick=quick,
                again=again,
                backend=name,
                strategy=strategy_of(strategy),
                workers=jobs,
                progress=show,
            )
    except KeyboardInterrupt:
        console.print("Stopped. What was measured is kept; the same command goes on from there.")
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps([_row(record) for record in records], indent=1))
    else:
        _print_table(records)


def _working_backend(asked: str | None, console: Console) -> str:
    """The one to tune on. Raises ValueError for one that does not work here."""
    from tqgen_kernels import backends
    from tqgen_kernels.autotuning import device_backend

    name = asked or device_backend()
    if not backends.load(name).is_available():
        advice = "pip install 'tqgen-kernels[emulator]' brings a compiler."
        raise ValueError(
            f"The {name} backend does not work here: "
            + (advice if name == "emulated" else "leave --backend out for the device's own.")
        )
    if name == "emulated":
        console.print(
            "There is no GPU here: the emulator runs and verifies the kernels at a small size. "
            "Its times say nothing about a GPU."
        )
    return name


def _problems(
    texts: list[str],
    *,
    bundled: bool,
    model: str | None,
    head_dim: int | None,
    shape: tuple[int, int],
    scheme: Scheme | LayeredScheme,
    dtype: str | None,
    sizes: Mapping[str, Any],
) -> list[Problem]:
    """What the arguments ask for. Raises ValueError unless they ask in one way."""
    from tqgen_kernels.codegen.bundled import bundled_problems
    from tqgen_kernels.codegen.model import AttentionShape, model_problems, shape_of
    from tqgen_kernels.codegen.problem import parse_problem
    from tqgen_kernels.execution.storage import storage_for
    from tqgen_kernels.quant.layered import distinct

    ways = [bool(texts), bundled, model is not None, head_dim is not None]
    if sum(ways) != 1:
        raise ValueError("Give one of: problems, --model, --head-dim, --bundled.")
    if texts:
        return [parse_problem(text) for text in texts]
    if bundled:
        return list(bundled_problems())
    if model is not None:
        config = _model_config(model)
        attention = shape_of(config)
    else:
        assert head_dim is not None
        config = {}
        kv_heads, gqa = shape
        attention = AttentionShape(kv_heads * gqa, kv_heads, head_dim, head_dim)
    kind = dtype or _dtype(config)
    found: list[Problem] = []
    for own in distinct(scheme):
        storage = storage_for(own, attention.key_dim, attention.value_dim)
        found += model_problems(attention, own, kind, storage=storage, **sizes)
    return list(dict.fromkeys(found))


def _model_config(model: str) -> dict[str, Any]:
    """config.json of a folder or of a hub model; the weights stay where they are."""
    folder = Path(model)
    path = folder / "config.json"
    if not folder.exists():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
        )

        try:
            path = Path(hf_hub_download(model, "config.json"))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ValueError(
                f"{model!r} is neither a folder with config.json nor a hub model that can be "
                f"reached: {str(error).splitlines()[0]}"
            ) from None
    if not path.is_file():
        raise ValueError(f"{folder} has no config.json: give the folder of an mlx-lm model.")
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no model config: it holds no JSON object.")
    return config


def _dtype(config: Mapping[str, Any]) -> str:
    """The model's, as far as it is one that kernels are written for; float32 without a GPU, where
    models run in it."""
    from tqgen_kernels import backends
    from tqgen_kernels.codegen.problem import DTYPES

    if backends.default_name() == backends.PORTABLE:
        return "float32"
    named = config.get("dtype") or config.get("torch_dtype")
    return named if isinstance(named, str) and named in DTYPES else "float16"


@contextmanager
def _bars(console: Console, problems: int) -> Iterator[Callable[[Progress], None]]:
    """A progress bar a problem: candidates done, the best so far, time left."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    from tqgen_kernels.codegen.problem import family_of
    from tqgen_kernels.tuning.record.label import config_label, format_time

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"),
        TextColumn("{task.fields[left]}"),
    )
    with RichProgress(*columns, console=console) as progress:
        tasks: dict[Problem | None, Any] = {}

        def label(problem: Problem | None) -> str:
            if problem is None:
                return "compile and verify"
            number = len(tasks) + 1 - (None in tasks)
            parts = (f"{number}/{problems}", family_of(problem), getattr(problem, "layout", ""))
            return " ".join((*filter(None, parts), f"{problem.context}"))

        def show(state: Progress) -> None:
            if state.problem not in tasks:
                for before in tasks.values():
                    progress.update(before, left="")
                tasks[state.problem] = progress.add_task(label(state.problem), best="", left="")
            best = ""
            if state.best is not None and state.best_config is not None:
                best = f"best {format_time(state.best)} {config_label(state.best_config)}"
            left = "" if state.left is None else f"{state.left:.0f} s left"
            if state.phase == "final":
                left = ", ".join(filter(None, ("final", left)))
            progress.update(
                tasks[state.problem],
                completed=state.done,
                total=state.total,
                best=escape(best),
                left=left,
            )

        yield show


def _row(record: Record) -> dict[str, Any]:
    """What the table shows of a record, as plain values."""
    from collections import Counter
    from statistics import median

    from tqgen_kernels.codegen.variant import Config
    from tqgen_kernels.tuning.record.decide import BASELINES

    def seconds(result: Result | None) -> float | None:
        return median(result.timed) if result is not None and result.timed else None

    winner = record.winner
    return {
        "problem": record.problem,
        "device": record.environment.device,
        "selected": record.selected,
        "seconds": seconds(winner),
        "default_seconds": seconds(record.result(Config.of(**record.default))),
        "baselines": {
            r.road: seconds(r) for r in record.results if r.road in BASELINES and r.timed
        },
        "noise": record.noise,
        "bandwidth": winner.bandwidth if winner else None,
        "roofline": winner.roofline if winner else None,
        "stopped": record.stopped,
        "outcomes": dict(Counter(result.outcome for result in record.results)),
    }


def _print_table(records: list[Record]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tqgen_kernels.tuning.record.label import config_label, format_time, short_label
    from tqgen_kernels.tuning.record.record import printable

    def shown(seconds: float | None) -> str:
        return "-" if seconds is None else format_time(seconds)

    table = Table(box=box.SIMPLE)
    for name in ("problem", "chosen"):
        table.add_column(name, overflow="fold")
    for name in ("time", "default", "uncompressed", "GB/s", "of peak"):
        table.add_column(name, justify="right", no_wrap=True)
    for record in records:
        row = _row(record)
        winner = record.winner
        selected = config_label(winner.key) if winner else "none: nothing was correct"
        table.add_row(
            short_label(record.parsed_problem).replace("_", " "),
            escape(printable(selected)),
            shown(row["seconds"]),
            shown(row["default_seconds"]),
            shown(row["baselines"].get("fp16")),
            f"{row['bandwidth']:.4g}" if row["bandwidth"] else "-",
            f"{row['roofline']:.0%}" if row["roofline"] else "-",
        )
    console = Console()
    console.print(table)
    for record in records:
        tried = ", ".join(f"{n} {outcome}" for outcome, n in _row(record)["outcomes"].items())
        early = (
            "" if record.stopped == "complete" else f"; the search ended early ({record.stopped})"
        )
        console.print(f"{short_label(record.parsed_problem)}: {tried}{early}", highlight=False)
    if any(record.stopped == "budget" for record in records):
        console.print("The time ran out. The same command goes on from here.")
