"""What encode.py and dequantize.py share: the ways to share a vector among lanes, beside a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from timing import Contender, after, compare, copies, report, tick

from tqgen_kernels import backends
from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.backends.compiled import Compiled, example_arrays
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import (
    DequantizeProblem,
    EncodeProblem,
    Problem,
    family_of,
    format_problem,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry

EMULATED_TOKENS = 64
COLUMNS = (
    "problem", "tokens x heads", "config", "us", "GB/s", "copy us", "of copy", "over one lane",
    "empty us",
)  # fmt: skip


def strategies(problem: Problem, every: bool) -> list[Config]:
    """The first candidate of each number of lanes in the order of the space, or all of them."""
    configs = candidates(FAMILIES[family_of(problem)], problem)
    if every:
        return list(configs)
    first: dict[Any, Config] = {}
    for config in configs:
        first.setdefault(config["lanes"], config)
    return list(first.values())


@lru_cache(maxsize=1)
def inputs_of(problem: Problem, backend: str) -> tuple[Example, list[dict[str, mx.array]]]:
    """The same for all configs of a problem: making them takes longer than what is timed."""
    example = FAMILIES[family_of(problem)].example(problem, np.random.default_rng(1))
    nbytes = sum(a.nbytes for a in example.inputs.values())
    return example, [example_arrays(example) for _ in range(copies(nbytes, backend))]


def kernel_contender(name: str, compiled: Compiled, backend: str) -> Contender:
    example, sets = inputs_of(compiled.variant.problem, backend)

    def chain(n: int) -> mx.array:
        params = sets[0]["params"]
        out = params
        for i in range(n):
            out = compiled({**sets[i % len(sets)], "params": params}, example.scalars)[0]
            params = after(sets[0]["params"], out)
        return params

    return Contender(name, chain)


def empty_contender(compiled: Compiled, backend: str) -> Contender:
    """The same launch of a kernel that does nothing: what MLX and the device take for it."""
    variant = replace(compiled.variant, header="", source="// Nothing.\n")
    launcher = backends.load(backend).build(variant)
    return kernel_contender("empty", Compiled(variant, backend, launcher), backend)


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
    problem: EncodeProblem | DequantizeProblem,
    backend: str,
    *,
    rounds: int,
    seconds: float,
    every: bool = False,
) -> list[dict[str, Any]]:
    """A row per strategy. Raises RuntimeError where one is wrong: nothing is timed then."""
    if backend == "emulated":
        problem = replace(problem, context=EMULATED_TOKENS)
    contenders = []
    for config in strategies(problem, every):
        compiled = registry.compile(problem, config, backend)
        registry.verify(compiled)
        contenders.append(kernel_contender(str(config), compiled, backend))
    elements = problem.batch * problem.kv_heads * problem.context * problem.head_dim
    empty = empty_contender(compiled, backend)
    others = [empty, copy_contender(elements), tick(mx.zeros(8, mx.int32))]
    times = compare([*contenders, *others], backend, rounds=rounds, seconds=seconds)
    added = times["after"].median
    copied = 4 * elements / times["copy"].median
    moved = FAMILIES[family_of(problem)].bytes_moved(problem)
    alone = {c.name: max(times[c.name].median - added, 1e-9) for c in [*contenders, empty]}
    one_lane = next((alone[c.name] for c in contenders if c.name.startswith("lanes=1 ")), None)
    return [
        {
            "problem": format_problem(problem).split(",norm")[0].split(",rotated=F")[0],
            "tokens x heads": f"{problem.context} x {problem.kv_heads}",
            "config": name,
            "us": alone[name] * 1e6,
            "GB/s": moved / alone[name] / 1e9,
            "copy us": times["copy"].median * 1e6,
            "of copy": moved / alone[name] / copied,
            "over one lane": one_lane and one_lane / alone[name],
            "empty us": alone["empty"] * 1e6,
        }
        for name in (c.name for c in contenders)
    ]


def run(
    title: str,
    problems: Sequence[EncodeProblem | DequantizeProblem],
    output: Path,
    *,
    quick: bool,
    every: bool,
) -> None:
    """Measures the problems (the first alone if quick or emulated), prints and writes the table."""
    backend = device_backend()
    few = quick or backend == "emulated"
    rounds, seconds = (2, 0.02) if few else (9, 0.05)
    rows = [
        row
        for problem in (problems[:1] if few else problems)
        for row in measure(problem, backend, rounds=rounds, seconds=seconds, every=every)
    ]
    report(title, backend, COLUMNS, rows, output)
