"""Trellis codes beside scalar ones: encoding and dequantising 8 heads of 32768 vectors.

python benchmarks/trellis.py [--quick] [--output trellis.json]

A candidate that no cache uses (docs/codes.md). "over scalar" compares with the fastest scalar
config of the same work and bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import typer
from timing import compare, report, tick
from vectors import copy_contender, kernel_contender

from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    DequantizeProblem,
    EncodeProblem,
    Problem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry

HEAD_DIM, HEADS, TOKENS = 128, 8, 32768
EMULATED_TOKENS = 64
COLUMNS = ("work", "bits", "config", "us", "MB/s of fp16", "of copy", "over scalar")


def pairs(bits: int, tokens: int) -> Iterator[tuple[Problem, Problem]]:
    """(scalar, trellis) problems of the same work."""
    size: dict[str, Any] = {"kv_heads": HEADS, "context": tokens}
    yield (
        EncodeProblem(HEAD_DIM, bits, codebook="cubic", **size),
        TrellisEncodeProblem(HEAD_DIM, bits, **size),
    )
    yield (
        DequantizeProblem(HEAD_DIM, bits, codebook="cubic", **size),
        TrellisDequantizeProblem(HEAD_DIM, bits, **size),
    )


def configs(problem: Problem) -> list[Config]:
    """4 to 16 lanes with the declared number of vectors at a time; the default among them."""
    family = FAMILIES[family_of(problem)]
    default = family.default(problem)
    found = candidates(family, problem)
    return [
        c for c in found if c["at_once"] == default["at_once"] and int(c["lanes"]) in (4, 8, 16)
    ]


def measure(
    bits: int, backend: str, tokens: int, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """A row a config. Raises InvalidVariant where one is wrong: nothing is timed then."""
    for scalar, trellis in pairs(bits, tokens):
        contenders = []
        for problem in (scalar, trellis):
            for config in configs(problem):
                one_head: Any = replace(problem, kv_heads=1)  # type: ignore[arg-type]
                registry.verify(registry.compile(one_head, config, backend), tokens=64)
                compiled = registry.compile(problem, config, backend)
                name = f"{family_of(problem)} {config}"
                contenders.append(kernel_contender(name, compiled, backend))
        elements = HEADS * tokens * HEAD_DIM
        others = [copy_contender(elements), tick(mx.zeros(8, mx.int32))]
        times = compare([*contenders, *others], backend, rounds=rounds, seconds=seconds)
        alone = {
            c.name: max(times[c.name].median - times["after"].median, 1e-9) for c in contenders
        }
        fastest = min(time for name, time in alone.items() if "trellis" not in name)
        for name, time in alone.items():
            work, _, config_text = name.partition(" ")
            yield {
                "work": work,
                "bits": bits,
                "config": config_text,
                "us": time * 1e6,
                "MB/s of fp16": 2 * elements / time / 1e6,
                "of copy": times["copy"].median / time,
                "over scalar": time / fastest,
            }


def main(
    quick: Annotated[bool, typer.Option(help="2 bits alone, few samples.")] = False,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/trellis.json"
    ),
) -> None:
    """Times trellis codes beside scalar ones and a copy of the vectors."""
    backend = device_backend()
    emulated = backend == "emulated"
    tokens = EMULATED_TOKENS if emulated else TOKENS
    few = quick or emulated
    rows = [
        row
        for bits in ((2,) if few else (2, 3))
        for row in measure(bits, backend, tokens, *((1, 0.01) if few else (4, 0.02)))
    ]
    report("Trellis codes beside scalar ones", backend, COLUMNS, rows, output)


if __name__ == "__main__":
    typer.run(main)
