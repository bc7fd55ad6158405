"""Instructions per coordinate of a variant: what one more stored coordinate costs.

Counted by the emulator (emulator/instructions.py) in two launches of one head, one with twice the
tokens of the other: the difference, over the coordinates that it has more. What a launch costs
whatever its length, and attention's exact window, fall out; attention counts all its query rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tqgen_kernels import emulator
from tqgen_kernels.backends.compiled import Compiled, example_arrays
from tqgen_kernels.backends.metal_call import launcher
from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.codegen.variant import Config, Variant
from tqgen_kernels.files import cache_dir, write_atomically

_TILES = {  # in the shorter launch
    "encode": 1,
    "dequantize": 1,
    "trellis_encode": 1,
    "trellis_dequantize": 1,
    "attend": 32,
    "qk_scores": 32,
}
_WINDOW = 70  # exact tokens of an attend example


@dataclass(frozen=True)
class PerCoordinate:
    """Instructions per stored coordinate, by kind; `convert` is not in `total`: half arithmetic
    goes through float in the emulator where a GPU has instructions for it."""

    integer: float
    floating: float
    convert: float
    memory: float
    simd: float

    @property
    def total(self) -> float:
        return self.integer + self.floating + self.memory + self.simd


def per_coordinate(variant: Variant) -> PerCoordinate | None:
    """The count of a variant, from disk if it was counted before; None for a family that reads or
    writes no stored coordinates. Raises MetalCompileError where there is no clang."""
    import msgspec

    name = family_of(variant.problem)
    if name not in _TILES:
        return None
    path = cache_dir() / "instructions" / f"{_key(variant)}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=PerCoordinate)
    except (OSError, msgspec.DecodeError):
        pass
    found = _count(variant, _TILES[name])
    write_atomically(path, msgspec.json.encode(found))
    return found


def _key(variant: Variant) -> str:
    from tqgen_kernels.emulator.compiler import find_compiler
    from tqgen_kernels.emulator.prelude import prelude_digest

    parts = (variant.sha256, find_compiler().identity, prelude_digest(), _own_text())
    return hashlib.sha256("\0".join((variant.uri, *parts)).encode()).hexdigest()


@lru_cache(maxsize=1)
def _own_text() -> str:
    from tqgen_kernels.emulator import instructions

    return Path(__file__).read_text(encoding="utf-8") + Path(instructions.__file__).read_text(
        encoding="utf-8"
    )


def _count(variant: Variant, tiles: int) -> PerCoordinate:
    from tqgen_kernels.emulator.instructions import KINDS, CountingKernel

    made: list[CountingKernel] = []

    def counting_kernel(**given: Any) -> CountingKernel:
        made.append(CountingKernel(**given, ensure_row_contiguous=True, atomic_outputs=False))
        return made[0]

    one_head: Any = replace(variant.problem, kv_heads=1, batch=1)  # type: ignore[arg-type]
    variant = replace(variant, problem=one_head)
    compiled = Compiled(variant, "emulated", launcher(counting_kernel, variant))
    totals = []
    for length in (tiles, 2 * tiles):
        _launch(compiled, length)
        totals.append(made[0].counts)
    first, both = totals
    coordinates = tiles * 32 * _dims(one_head)
    # `both` holds the first launch as well.
    return PerCoordinate(**{k: (both[k] - 2 * first[k]) / coordinates for k in KINDS})


def _launch(compiled: Compiled, tiles: int) -> None:
    problem, family = compiled.variant.problem, compiled.family
    tokens = tiles * 32 + (_WINDOW if family.name == "attend" else 0)
    config = compiled.variant.config
    example = family.example(problem, np.random.default_rng(0), tokens, config)
    if family.adapt is not None:  # all tiles in one split: as in a long context
        values = ((k, 1 if k == "groups" else v) for k, v in config.values)
        example = family.adapt(problem, example, Config(tuple(values)))
    with emulator.options(checks="fast"):
        compiled(example_arrays(example), example.scalars)


def _dims(problem: Any) -> int:
    """Coordinates of one token of one head."""
    if hasattr(problem, "key_dim"):
        return int(problem.key_dim + problem.value_dim)
    return int(problem.head_dim)


def is_counted(problem: Problem) -> bool:
    """Whether variants of this problem have a count."""
    return family_of(problem) in _TILES
