"""Packed tiles back to vectors, beside a copy of the vectors.

python benchmarks/dequantize.py [--quick] [--every] [--output dequantize.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from vectors import run

from tqgen_kernels.codegen.problem import LAYOUTS, DequantizeProblem

PROBLEMS = (
    DequantizeProblem(128, 3, "key", context=32768),
    *(
        DequantizeProblem(128, bits, layout, codebook="cubic", context=32768)
        for layout in LAYOUTS
        for bits in ((3, 4) if layout.startswith("key") else (3,))
    ),
    *(
        DequantizeProblem(128, 3, layout, rotated=True, codebook="cubic", context=32768)
        for layout in LAYOUTS
    ),
)


def main(
    quick: Annotated[bool, typer.Option(help="One problem, few samples.")] = False,
    every: Annotated[bool, typer.Option(help="Every candidate, not the first.")] = False,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/dequantize.json"
    ),
) -> None:
    """Times the ways to share a vector among lanes."""
    run("Dequantize", PROBLEMS, output, quick=quick, every=every)


if __name__ == "__main__":
    typer.run(main)
