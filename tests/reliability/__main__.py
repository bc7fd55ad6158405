"""The fault suite over every kind of file: `python -m tests.reliability`, some minutes.

python -m tests.reliability [--every N] [--kind NAME] [--fault NAME] [--output FILE]
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tests.reliability.damage import OUTCOMES, damage
from tests.reliability.kinds import Kind, plain_kinds
from tests.reliability.writing import WRITE_OUTCOMES, disk_full, killed, read_only, two_writers
from tqgen_kernels.kept import KeptWarning

Fault = Callable[[Kind, Path, int], Counter[str]]
FAULTS: dict[str, Fault] = {
    "damage": damage,
    "disk full": disk_full,
    "read-only": read_only,
    "two writers": two_writers,
    "kill -9": killed,
}
RIGHT = {*OUTCOMES, *WRITE_OUTCOMES}


def rows(every: int, kind: str, fault: str, mlx: bool) -> list[dict[str, object]]:
    """What became of every case, by fault and kind."""
    kinds = plain_kinds()
    if mlx:
        from tests.reliability.mlx_kinds import mlx_kinds

        kinds = mlx_kinds()
    found: list[dict[str, object]] = []
    for each in kinds:
        for name, run in FAULTS.items():
            if kind not in ("", each.name) or fault not in ("", name):
                continue
            if name != "damage" and not each.written:
                continue
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                outcomes = run(each, Path(folder), every)
            row = {"kind": each.name, "fault": name, "outcomes": dict(outcomes)}
            found.append({**row, "seconds": round(time.process_time() - start, 2)})
    return found


def main(
    every: Annotated[int, typer.Option(min=1, help="Each nth bit.")] = 1,
    kind: Annotated[str, typer.Option(help="One kind of file.")] = "",
    fault: Annotated[str, typer.Option(help=f"One of {', '.join(FAULTS)}.")] = "",
    mlx: Annotated[bool, typer.Option(help="The kinds that need MLX.")] = False,
    output: Annotated[Path | None, typer.Option(help="Also write JSON.")] = None,
) -> None:
    """Print JSON, one row a kind and fault; exit with 1 if one case went wrong."""
    warnings.simplefilter("ignore", KeptWarning)  # said a thousand times here
    found = rows(every, kind, fault, mlx)
    text = json.dumps(found, indent=1)
    typer.echo(text)
    if output is not None:
        output.write_text(text + "\n")
    if any(set(row["outcomes"]) - RIGHT for row in found):  # type: ignore[call-overload]
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
