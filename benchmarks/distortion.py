"""Distortion of every codebook, beside the best scalar one and Shannon's bound.

python benchmarks/distortion.py [--quick] [--output distortion.json]

Distortion is the mean of ||x - x'||^2 / ||x||^2: over vectors of independent Gaussian coordinates,
and over all one-hot vectors, which a single Hadamard round leaves with coordinates of one size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from tqgen_kernels.files import write_atomically
from tqgen_kernels.quant import reference, trellis
from tqgen_kernels.quant.codebook import KINDS, distortion
from tqgen_kernels.quant.rotation import rotate

DIMS = (32, 64, 80, 96, 128, 256, 512)
SEED = 42
COLUMNS = (
    "head_dim", "bits", "codebook", "plain", "corrected", "one-hot plain", "one-hot corrected",
    "lloyd-max optimum", "Shannon bound", "dB above bound",
)  # fmt: skip

Float64 = NDArray[np.float64]


def scalar_error(x: Float64, bits: int, kind: str, corrected: bool) -> float:
    """Distortion of vectors x (n, d) with a codebook for one coordinate."""
    encoded = reference.encode(x, bits, SEED, corrected, codebook=kind)
    return relative_error(x, reference.decode(encoded, bits, SEED, codebook=kind))


def trellis_errors(x: Float64, bits: int) -> tuple[float, float]:
    """Distortion of vectors x (n, d) with the plain and with the corrected norm as the scale."""
    dim = x.shape[-1]
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    y = rotate(x / norm, SEED) * dim**0.5
    chosen = trellis.centroids(trellis.nearest(y, bits), bits)
    exact = y * (norm / dim**0.5)
    length = np.linalg.norm(chosen, axis=-1, keepdims=True)
    plain, corrected = (
        relative_error(exact, chosen * (norm / size).astype(np.float16).astype(np.float64))
        for size in (dim**0.5, length)
    )
    return plain, corrected


def relative_error(x: Float64, approximation: Float64) -> float:
    return float((((x - approximation) ** 2).sum(-1) / (x * x).sum(-1)).mean())


def measure(dims: tuple[int, ...], coordinates: int) -> Iterator[dict[str, Any]]:
    """One row a head_dim, bits and codebook; `coordinates`: how many Gaussian ones a row takes."""
    for dim in dims:
        x = np.random.default_rng(dim).standard_normal((max(1, coordinates // dim), dim))
        few = x[: max(1, len(x) // 32)]  # the trellis takes long in NumPy
        for bits in range(1, 9):
            for kind in KINDS:
                gaussian, one_hot = (
                    [scalar_error(vectors, bits, kind, corrected) for corrected in (False, True)]
                    for vectors in (x, np.eye(dim))
                )
                yield row(dim, bits, kind, gaussian, one_hot)
            if bits in trellis.TRELLISES:
                gaussian, one_hot = (
                    [*trellis_errors(vectors, bits)] for vectors in (few, np.eye(dim)[:16])
                )
                yield row(dim, bits, "trellis", gaussian, one_hot)


def row(
    dim: int, bits: int, kind: str, gaussian: list[float], one_hot: list[float]
) -> dict[str, Any]:
    bound = 4.0**-bits
    measured = (*gaussian, *one_hot, distortion(dim, bits), bound)
    decibels = 10 * np.log10(min(gaussian) / bound)
    return dict(zip(COLUMNS, (dim, bits, kind, *measured, decibels), strict=True))


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Distortion")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for each in rows:
        cells = (each[column] for column in COLUMNS)
        table.add_row(*(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells))
    Console(width=140).print(table)


def main(
    quick: Annotated[bool, typer.Option(help="Two head_dims, few vectors.")] = False,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/distortion.json"
    ),
) -> None:
    """Measures every codebook on random vectors; needs no GPU."""
    dims, coordinates = ((64, 128), 2**17) if quick else (DIMS, 2**21)
    rows = list(measure(dims, coordinates))
    show(rows)
    document = {"title": "Distortion", "numpy": np.__version__, "seed": SEED, "rows": rows}
    write_atomically(output, (json.dumps(document, indent=1) + "\n").encode())
    Console(width=140).print(f"Written to {output}")


if __name__ == "__main__":
    typer.run(main)
