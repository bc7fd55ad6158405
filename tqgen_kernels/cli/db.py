"""`tqgen db`: the tuning records of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqgen_kernels.cli.options import Backend, Family, Json, ProblemText

if TYPE_CHECKING:
    from tqgen_kernels.tuning.database.folder import Database
    from tqgen_kernels.tuning.record.record import Record

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Show, explain, export, import and prune tuning records.",
)


def _notice(text: str) -> None:
    typer.echo(f"notice: {text}", err=True)


def _databases() -> tuple[Database, Database]:
    from tqgen_kernels.tuning.database.folder import bundled_database, user_database

    return user_database(_notice), bundled_database(_notice)


@app.command()
def show(family: Family = "", as_json: Json = False) -> None:
    """List every record: those of this machine, then those that travel with the package."""
    rows = [
        _row(where, record)
        for where, database in zip(("user", "bundled"), _databases(), strict=True)
        for record in database.records(family)
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo("There is no tuning record yet: `tqgen autotune` makes them.")
        return
    _print_rows(rows)


def _row(where: str, record: Record) -> dict[str, Any]:
    from tqgen_kernels.tuning.database.select import describe
    from tqgen_kernels.tuning.record.record import printable

    winner = record.winner
    return {
        "where": where if record.provenance == "measured" else "imported",
        "device": printable(record.environment.device),
        "device_key": record.environment.device_key,
        "problem": record.problem,
        "winner": printable(describe(record, winner)) if winner else "nothing was correct",
        "tuned_at": printable(record.tuned_at),
        "stopped": record.stopped,
    }


def _foldable(problem: str) -> str:
    """With room to break a line; it reads back as the same problem."""
    return problem.replace(",", ", ")


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("where", "device", box=box.SIMPLE, show_lines=True)
    for name in ("problem", "winner"):
        table.add_column(name, overflow="fold")
    table.add_column("tuned at")
    for row in rows:
        cells = (
            row["where"],
            row["device"],
            _foldable(row["problem"]),
            row["winner"],
            row["tuned_at"][:10],
        )
        table.add_row(*(escape(cell) for cell in cells))
    Console().print(table)


@app.command()
def explain(
    problem: ProblemText,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """Why each record was or was not used for a problem, in the order of the chain."""
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from tqgen_kernels.autotuning import device_backend
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of, format_problem, parse_problem
    from tqgen_kernels.tuning.database.select import explain as explain_choice
    from tqgen_kernels.tuning.database.validate import validate
    from tqgen_kernels.tuning.record.buckets import tuned_as
    from tqgen_kernels.tuning.record.environment import detect
    from tqgen_kernels.tuning.record.record import printable

    asked = tuned_as(parse_problem(problem))
    environment = detect(backend or device_backend())
    user, bundled = _databases()
    default = FAMILIES[family_of(asked)].without_record(asked)
    lines = explain_choice(asked, environment, user, bundled, validate, default=default)
    if as_json:
        typer.echo(json.dumps([asdict(line) for line in lines], indent=1))
        return
    console = Console()
    console.print(_foldable(format_problem(asked)), highlight=False)
    console.print(f"on {environment.device_key}", highlight=False)
    table = Table("", "step", box=box.SIMPLE, show_lines=True)
    for name in ("record", "why"):
        table.add_column(name, overflow="fold")
    for line in lines:
        mark = "used" if line.used else ""
        what = _foldable(printable(line.what, 500))
        cells = (mark, line.origin, what, printable(line.why, 500))
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


@app.command("export")
def export_records(
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    family: Family = "",
    force: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write every record of this machine to one file."""
    from tqgen_kernels.tuning.database.exchange import export_tuned

    if file.exists() and not force:
        raise ValueError(f"{file} is already there: give another name, or --force.")
    user, _ = _databases()
    count = export_tuned(user.records(family), file)
    typer.echo(f"{count} records in {file}.")


@app.command("import")
def import_records(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="A file of `tqgen db export`.")
    ],
    replace_own: Annotated[
        bool, typer.Option("--replace", help="Also in the place of what was measured here.")
    ] = False,
) -> None:
    """Take the records of a file; each is verified on the device before its first use.

    Exits with 1 if a record was refused.
    """
    from tqgen_kernels.tuning.database.exchange import import_tuned

    user, _ = _databases()
    outcomes = import_tuned(file, user, replace_own=replace_own)
    for outcome in outcomes:
        typer.echo(f"{outcome.status}: {outcome.problem} on {outcome.device}: {outcome.reason}")
    refused = sum(outcome.status == "refused" for outcome in outcomes)
    taken = sum(outcome.status == "imported" for outcome in outcomes)
    typer.echo(f"{len(outcomes)} records: {taken} imported, {refused} refused.")
    if refused:
        raise typer.Exit(1)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option(help="Only say what would be removed.")] = False,
) -> None:
    """Remove records that this version cannot use, and left-overs of damaged files."""
    from tqgen_kernels.tuning.database.prune import prunable
    from tqgen_kernels.tuning.database.validate import validate

    user, _ = _databases()
    found = list(prunable(user, validate))
    for path, why in found:
        if not dry_run:
            path.unlink(missing_ok=True)
        typer.echo(f"{'would remove' if dry_run else 'removed'} {path}: {why}")
    typer.echo(f"{len(found)} files.")
