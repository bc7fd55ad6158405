"""Encoding a prefill chunk, beside a copy of it.

python benchmarks/encode.py [--quick] [--output encode.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from timing import report
from vectors import COLUMNS, measure

from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.codegen.problem import EncodeProblem

PROBLEMS = tuple(
    EncodeProblem(128, bits, layout, context=tokens)
    for tokens in (2048, 32768)
    for bits, layout in ((3, "key"), (4, "key"), (3, "value"))
)


def main(
    quick: Annotated[bool, typer.Option(help="One problem, few samples.")] = False,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/encode.json"
    ),
) -> None:
    """Times every way to own a vector."""
    backend = device_backend()
    few = quick or backend == "emulated"
    rounds, seconds = (2, 0.02) if few else (9, 0.05)
    rows = [
        row
        for problem in (PROBLEMS[:1] if few else PROBLEMS)
        for row in measure(problem, backend, rounds=rounds, seconds=seconds)
    ]
    report("Encode", backend, COLUMNS, rows, output)


if __name__ == "__main__":
    typer.run(main)
