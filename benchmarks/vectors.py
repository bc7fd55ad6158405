"""What encode.py and dequantize.py share: every way to own a vector, beside a copy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
from timing import Contender, after, compare, copies, tick

from tqgen_kernels import registry
from tqgen_kernels.backends.compiled import Compiled, example_arrays
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    DequantizeProblem,
    EncodeProblem,
    Problem,
    family_of,
    format_problem,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config

EMULATED_TOKENS = 64


def strategies(problem: Problem) -> dict[str, Config]:
    """The first candidate of each value of `threads`, in the order of the space."""
    first: dict[str, Config] = {}
    for config in candidates(FAMILIES[family_of(problem)], problem):
        first.setdefault(str(config["threads"]), config)
    return first


def kernel_contender(name: str, compiled: Compiled, backend: str) -> Contender:
    problem, config = compiled.variant.problem, compiled.variant.config
    example = compiled.family.example(problem, np.random.default_rng(1), None, config)
    nbytes = sum(a.nbytes for a in example.inputs.values())
    sets = [example_arrays(example) for _ in range(copies(nbytes, backend))]

    def chain(n: int) -> mx.array:
        params = sets[0]["params"]
        out = params
        for i in range(n):
            out = compiled({**sets[i % len(sets)], "params": params}, example.scalars)[0]
            params = after(sets[0]["params"], out)
        return params

    return Contender(name, chain)


def copy_contender(elements: int) -> Contender:
    """One read and one write of as many fp16 numbers as the vectors have."""
    x = mx.random.normal((elements,), mx.float16)
    mx.eval(x)

    def chain(n: int) -> mx.array:
        out = x
        for _ in range(n):
            out = mx.abs(out)
        return out

    return Contender("copy", chain)


def measure(
    problem: EncodeProblem | DequantizeProblem, backend: str, *, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """A row per strategy. Raises RuntimeError where one is wrong: nothing is timed then."""
    if backend == "emulated":
        problem = replace(problem, context=EMULATED_TOKENS)
    contenders = []
    for name, config in strategies(problem).items():
        compiled = registry.compile(problem, config, backend)
        registry.verify(compiled)
        contenders.append(kernel_contender(name, compiled, backend))
    elements = problem.batch * problem.kv_heads * problem.context * problem.head_dim
    others = [copy_contender(elements), tick(mx.zeros(8, mx.int32))]
    times = compare([*contenders, *others], backend, rounds=rounds, seconds=seconds)
    added = times["after"].median
    copied = 4 * elements / times["copy"].median
    moved = FAMILIES[family_of(problem)].bytes_moved(problem)
    rows = []
    for name, config in strategies(problem).items():
        alone = max(times[name].median - added, 1e-9)
        rows.append(
            {
                "problem": format_problem(problem).split(",kv_heads")[0],
                "tokens x heads": f"{problem.context} x {problem.kv_heads}",
                "config": str(config),
                "us": alone * 1e6,
                "GB/s": moved / alone / 1e9,
                "copy GB/s": copied / 1e9,
                "of copy": moved / alone / copied,
                "over serial": (times["serial"].median - added) / alone,
            }
        )
    return rows


COLUMNS = (
    "problem", "tokens x heads", "config", "us", "GB/s", "copy GB/s", "of copy", "over serial",
)  # fmt: skip
