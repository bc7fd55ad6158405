"""What a decode step over a long context may gain on Apple GPUs: an estimate, not a measurement.

For one stored coordinate, with W GB/s of published bandwidth and C GPU cores:

    fp16    = 2 bytes / W
    packed  = max(packed bytes / W, instructions / (C x LANES x CLOCK))

so that fp16 is taken to be bound by bytes. Instructions are what `tqgen variants --instructions`
counts, but that a product of the 8x8 matrix unit is the 512 multiply-adds that it does, over 32
lanes. LANES and CLOCK are assumptions: Apple publishes neither.

    python benchmarks/estimate.py
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tqgen_kernels.backends.instructions import per_coordinate
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import AttendProblem, Storage
from tqgen_kernels.codegen.render import render

LANES, CLOCK = 128, 1.4e9  # instructions a core and clock, clocks a second
MATRIX_PRODUCT = 512 // 32
DIM, KEY_BITS, VALUE_BITS = 128, 4, 3
GQA = (4, 7)


@dataclass(frozen=True)
class Chip:
    """GPU cores and GB/s of the largest configuration, as Apple publishes them."""

    name: str
    cores: int
    bandwidth: float


CHIPS = (
    Chip("M1", 8, 68.25),
    Chip("M1 Pro", 16, 200),
    Chip("M1 Max", 32, 400),
    Chip("M1 Ultra", 64, 800),
    Chip("M2", 10, 100),
    Chip("M2 Pro", 19, 200),
    Chip("M2 Max", 38, 400),
    Chip("M2 Ultra", 76, 800),
    Chip("M3", 10, 100),
    Chip("M3 Pro", 18, 150),
    Chip("M3 Max", 40, 400),
    Chip("M3 Ultra", 80, 819),
    Chip("M4", 10, 120),
    Chip("M4 Pro", 20, 273),
    Chip("M4 Max", 40, 546),
    Chip("M5", 10, 153),
)


def instructions(storage: Storage, gqa: int) -> float:
    """Of one lane, for a stored coordinate."""
    problem = AttendProblem(
        DIM, DIM, KEY_BITS, VALUE_BITS, gqa=gqa, codebook="mixed", storage=storage
    )
    count = per_coordinate(render(problem, FAMILIES["attend"].default(problem)))
    assert count is not None
    products = count.simd if storage == "fragment" else 0.0
    return count.total + products * (MATRIX_PRODUCT - 1)


def ratio(chip: Chip, count: float) -> tuple[float, str]:
    """How many times faster than fp16, and what it is bound by."""
    packed_bytes = (KEY_BITS + VALUE_BITS) / 2 / 8 + 2 / DIM  # codes, and a scale a vector
    by_bytes = packed_bytes / (chip.bandwidth * 1e9)
    by_count = count / (chip.cores * LANES * CLOCK)
    fp16 = 2 / (chip.bandwidth * 1e9)
    return fp16 / max(by_bytes, by_count), "bytes" if by_bytes > by_count else "instructions"


def main() -> None:
    """Print one table."""
    columns: tuple[tuple[Storage, int], ...] = tuple(
        (storage, gqa) for gqa in GQA for storage in ("tiles", "fragment")
    )
    counts = {column: instructions(*column) for column in columns}
    table = Table("chip", "cores", "GB/s", title="ESTIMATE: times faster than fp16 attention")
    for (storage, gqa), count in counts.items():
        table.add_column(f"{storage}, {gqa} heads share\n{count:.1f} a coordinate")
    for chip in CHIPS:
        found = (ratio(chip, count) for count in counts.values())
        cells = (f"{times:.1f} ({bound})" for times, bound in found)
        table.add_row(chip.name, str(chip.cores), f"{chip.bandwidth:g}", *cells)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
