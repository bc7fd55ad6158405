"""`tqgen report`: one HTML page on what was tuned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tqgen_kernels.cli.options import Family, Json


def report(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("tqgen-report.html"),
    png: Annotated[
        Path | None, typer.Option(help="Also write each picture as a PNG into this folder.")
    ] = None,
    family: Family = "",
    bundled: Annotated[
        bool, typer.Option(help="The records that travel with the package instead of yours.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write one self-contained HTML page: every candidate, the roofline, the winner and why."""
    from tqgen_kernels.files import write_atomically
    from tqgen_kernels.tuning.database.folder import bundled_database, user_database
    from tqgen_kernels.tuning.record.label import short_label
    from tqgen_kernels.tuning.report.page import page
    from tqgen_kernels.tuning.report.plot import png as draw

    def notice(text: str) -> None:
        typer.echo(f"notice: {text}", err=True)

    database = bundled_database(notice) if bundled else user_database(notice)
    records = list(database.records(family))
    if not records:
        raise ValueError(
            f"There is no tuning record in {database.root}: run `tqgen autotune` first."
        )
    write_atomically(out.absolute(), page(records).encode())
    pictures = []
    if png is not None:
        png.mkdir(parents=True, exist_ok=True)
        for record in records:
            name = f"{record.environment.device_key}-{short_label(record.parsed_problem)}.png"
            write_atomically(png / name, draw(record))
            pictures.append(str(png / name))
    if as_json:
        problems = [record.problem for record in records]
        written = {"page": str(out), "problems": problems, "pictures": pictures}
        typer.echo(json.dumps(written, indent=1))
        return
    typer.echo(f"{len(records)} problem{'s' * (len(records) != 1)} in {out}.")
    if png is not None:
        typer.echo(f"{len(pictures)} pictures in {png}.")
