"""Encoding a prefill chunk, beside a copy of it.

python benchmarks/encode.py [--quick] [--every] [--output encode.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from vectors import run

from tqgen_kernels.codegen.problem import LAYOUTS, EncodeProblem

PROBLEMS = (
    *(EncodeProblem(128, 3, "key", context=tokens) for tokens in (2048, 16384)),
    *(
        EncodeProblem(128, bits, layout, codebook="cubic", context=tokens)
        for tokens in (2048, 16384)
        for layout in LAYOUTS
        for bits in ((3, 4) if layout.startswith("key") else (3,))
    ),
)


def main(
    quick: Annotated[bool, typer.Option(help="One problem, few samples.")] = False,
    every: Annotated[bool, typer.Option(help="Every candidate, not the first.")] = False,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/encode.json"
    ),
) -> None:
    """Times the ways to share a vector among lanes."""
    run("Encode", PROBLEMS, output, quick=quick, every=every)


if __name__ == "__main__":
    typer.run(main)
