"""`tqgen verify`: is this machine safe? Every family against the float64 reference."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tqgen_kernels.cli.options import Backend, Json

if TYPE_CHECKING:
    from tqgen_kernels.execution.verification import Outcome


def verify(
    backend: Backend = None,
    head_dim: Annotated[
        list[int] | None, typer.Option(help="Only these head_dims; may be repeated.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=0, help="Besides defaults, every n-th candidate; 1 for all.")
    ] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only head_dim 128, unless --head-dim says others.")
    ] = False,
    bundled: Annotated[
        bool, typer.Option("--bundled", help="The problems whose kernels are bundled instead.")
    ] = False,
    long: Annotated[
        bool,
        typer.Option(
            "--long", help="Only attention over 1,000,003 tokens; minutes, 2 GB of memory."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Run kernel variants on this device and compare them with the float64 reference.

    Exits with 1 if one is wrong or does not run.
    """
    from rich.progress import Progress

    from tqgen_kernels.autotuning import device_backend
    from tqgen_kernels.execution.verification import (
        HEAD_DIMS,
        chosen_configs,
        long_problems,
        table,
        verify_all,
        verify_long,
    )

    name = backend or device_backend()
    dims = tuple(head_dim or ((128,) if quick else HEAD_DIMS))
    total = sum(len(chosen_configs(p, every, name)) for p in table(dims, bundled))
    with Progress(transient=True, disable=as_json) as bar:
        task = bar.add_task(f"verifying on {name}", total=len(long_problems()) if long else total)

        def progress(outcome: Outcome) -> None:
            bar.advance(task)

        if long:
            outcomes = verify_long(name, progress=progress)
        else:
            outcomes = verify_all(dims, name, every=every, bundled=bundled, progress=progress)
    if as_json:
        typer.echo(json.dumps([_row(outcome) for outcome in outcomes], indent=1))
    else:
        _print_table(name, outcomes)
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def _row(outcome: Outcome) -> dict[str, object]:
    from tqgen_kernels.codegen.problem import format_problem

    found = outcome.verification
    return {
        "problem": format_problem(outcome.problem),
        "config": dict(outcome.config.values),
        "passed": outcome.passed,
        "error": found.error if found else None,
        "tolerance": found.tolerance if found else None,
        "measure": found.measure if found else None,
        "reason": outcome.reason,
    }


def _print_table(name: str, outcomes: list[Outcome]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of, format_problem

    table = Table("family", "variants", "passed", "worst error / tolerance", title=f"on {name}")
    for family in FAMILIES:
        of_family = [o for o in outcomes if family_of(o.problem) == family]
        ratios = [
            o.verification.error / o.verification.tolerance for o in of_family if o.verification
        ]
        worst = f"{max(ratios):.2f}" if ratios else "-"
        table.add_row(family, str(len(of_family)), str(sum(o.passed for o in of_family)), worst)
    console = Console()
    console.print(table)
    for outcome in outcomes:
        if not outcome.passed:
            found = outcome.verification
            why = outcome.reason or f"error {found.error:.3g}, allowed {found.tolerance:.3g}"  # type: ignore[union-attr]
            console.print(f"{format_problem(outcome.problem)} {outcome.config}: {why[:500]}")
