"""`tqgen variants`: every point of a problem's search space, and why some are no candidates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tqgen_kernels.cli.options import Json, ProblemText

if TYPE_CHECKING:
    from tqgen_kernels.backends.instructions import PerCoordinate
    from tqgen_kernels.codegen.family import Tunable
    from tqgen_kernels.codegen.problem import Problem
    from tqgen_kernels.codegen.space import Candidate
    from tqgen_kernels.codegen.variant import Config

_KINDS = ("integer", "floating", "memory", "simd", "convert")


def variants(
    problem: ProblemText,
    removed: Annotated[bool, typer.Option(help="Only the removed ones.")] = False,
    candidates: Annotated[bool, typer.Option(help="Only the candidates.")] = False,
    instructions: Annotated[
        bool, typer.Option(help="Count instructions per coordinate: a second or two each, once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the candidates of a kernel problem and, for each removed one, the restriction.

    --instructions compiles each candidate for the emulator and counts what it executes for one more
    stored coordinate: integer and float operations, loads and stores, SIMD-group functions. It is
    a count of optimised, vendor-neutral code (LLVM IR), not of any GPU's machine code.
    """
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of, parse_problem
    from tqgen_kernels.codegen.space import space

    if removed and candidates:
        raise ValueError("Give one of --removed and --candidates, or none to see all.")
    parsed = parse_problem(problem)
    family = FAMILIES[family_of(parsed)]
    default = family.default(parsed)
    points = space(family, parsed)
    shown = [
        p
        for p in points
        if not (removed and p.removed_by is None) and not (candidates and p.removed_by)
    ]
    counts = _counts(parsed, [p.config for p in shown if not p.removed_by]) if instructions else {}
    if as_json:
        rows = [
            {
                "config": dict(p.config.values),
                "removed_by": p.removed_by,
                "default": p.config == default,
            }
            | ({"instructions": _shown(counts[p.config])} if p.config in counts else {})
            for p in shown
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    _print(family.tunables(parsed), default, shown, counts)
    allowed = sum(p.removed_by is None for p in points)
    typer.echo(f"{len(points)} points, {allowed} candidates, {len(points) - allowed} removed.")
    if counts:
        typer.echo("instructions: per stored coordinate, conversions between floats left out.")


def _print(
    tunables: Sequence[Tunable],
    default: Config,
    shown: Sequence[Candidate],
    counts: Mapping[Config, PerCoordinate],
) -> None:
    """Two tables: the tunables, and the points of their space."""
    from rich.console import Console
    from rich.table import Table

    meanings = Table("tunable", "values", "meaning", title="tunables")
    for tunable in tunables:
        values = ", ".join(str(value) for value in tunable.values)
        meanings.add_row(tunable.name, values, tunable.meaning)
    columns = ("instructions", *_KINDS) if counts else ()
    table = Table(*(t.name for t in tunables), *columns, "candidate")
    for p in shown:
        status = "the default" if p.config == default else "yes"
        status = f"no: {p.removed_by}" if p.removed_by else status
        count = _shown(counts[p.config]) if p.config in counts else {}
        cells = (f"{count[c]:.2f}" if c in count else "" for c in columns)
        table.add_row(*(str(value) for _, value in p.config.values), *cells, status)
    Console().print(meanings, table, sep="\n")


def _counts(problem: Problem, configs: list[Config]) -> dict[Config, PerCoordinate]:
    """Raises ValueError for a family that has no stored coordinates."""
    from rich.progress import track

    from tqgen_kernels.backends.instructions import is_counted, per_coordinate
    from tqgen_kernels.codegen.render import render

    if not is_counted(problem):
        raise ValueError("Partial results have no stored coordinates: leave --instructions out.")
    found = {}
    for config in track(configs, "counting", transient=True):
        count = per_coordinate(render(problem, config))
        if count is not None:
            found[config] = count
    return found


def _shown(count: PerCoordinate) -> dict[str, float]:
    return {"instructions": count.total} | {kind: getattr(count, kind) for kind in _KINDS}
