"""`tqgen variants`: every point of a problem's search space, and why some are no candidates."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def variants(
    problem: Annotated[str, typer.Argument(help="As in attend:key_dim=128,value_dim=128,...")],
    removed: Annotated[bool, typer.Option(help="Only the removed ones.")] = False,
    candidates: Annotated[bool, typer.Option(help="Only the candidates.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the candidates of a kernel problem and, for each removed one, the restriction."""
    from rich.console import Console
    from rich.table import Table

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
    if as_json:
        rows = [
            {
                "config": dict(p.config.values),
                "removed_by": p.removed_by,
                "default": p.config == default,
            }
            for p in shown
        ]
        typer.echo(json.dumps(rows, indent=1))
        return
    declared = family.tunables(parsed)
    tunables = Table("tunable", "values", "meaning", title=f"{family.name}: tunables")
    for tunable in declared:
        values = ", ".join(str(value) for value in tunable.values)
        tunables.add_row(tunable.name, values, tunable.meaning)
    table = Table(*(t.name for t in declared), "candidate")
    for p in shown:
        status = "the default" if p.config == default else "yes"
        status = f"no: {p.removed_by}" if p.removed_by else status
        table.add_row(*(str(value) for _, value in p.config.values), status)
    allowed = sum(p.removed_by is None for p in points)
    console = Console()
    console.print(tunables, table, sep="\n")
    console.print(f"{len(points)} points, {allowed} candidates, {len(points) - allowed} removed.")
