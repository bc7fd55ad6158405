"""One decode step over a packed cache against scaled_dot_product_attention over an fp16 one.

The whole step is timed: query to un-rotated output, attend and combine. Run it as

    python benchmarks/attend.py [--quick] [--only 32/8] [--output attend.json]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import numpy as np
import typer
from timing import Contender, compare, copies, report

from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.autotuning.roads import run_portable
from tqgen_kernels.backends.compiled import Compiled, example_arrays, to_numpy
from tqgen_kernels.codegen.families.attend import expected_output
from tqgen_kernels.codegen.families.scoring import VALUE_SEED
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import STORAGES, AttendProblem, CombineProblem, Storage
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.rotation import signs

ALLOWED = 2e-3  # relative L2 of an fp16 output
ALLOWED_FULL_SIZE = 1e-2  # against MLX's own operations, which may use TF32


@dataclass(frozen=True)
class Case:
    """A row of the table: head counts, tokens, batch and bits."""

    heads: int
    kv_heads: int
    tokens: int
    batch: int = 1
    key_bits: int = 3
    value_bits: int = 3
    head_dim: int = 128

    def __str__(self) -> str:
        bits = f"K{self.key_bits}V{self.value_bits}"
        return f"{self.heads}/{self.kv_heads} x {self.tokens}, batch {self.batch}, {bits}"

    def problem(self, storage: Storage) -> AttendProblem:
        return AttendProblem(
            self.head_dim,
            self.head_dim,
            self.key_bits,
            self.value_bits,
            gqa=self.heads // self.kv_heads,
            codebook="mixed",
            storage=storage,
            kv_heads=self.kv_heads,
            batch=self.batch,
            context=self.tokens,
        )


CASES = (
    Case(28, 4, 131072),
    Case(32, 8, 131072),
    Case(64, 8, 131072),
    Case(32, 32, 32768),
    Case(32, 8, 16384),
    Case(32, 8, 16384, batch=8),
    Case(28, 4, 4096),
    Case(32, 8, 4096),
    Case(32, 32, 4096),
    Case(32, 8, 131072, key_bits=4, value_bits=3),
    Case(32, 8, 131072, key_bits=4, value_bits=4),
)
QUICK = (CASES[0], CASES[1], CASES[4])
TINY = (Case(8, 2, 256, head_dim=64),)  # for the emulator


@dataclass(frozen=True)
class Step:
    """attend and combine of one problem."""

    problem: AttendProblem
    attend: Compiled
    combine: Compiled
    value_signs: mx.array

    def __call__(self, inputs: dict[str, mx.array], example: Example) -> mx.array:
        """(batch, heads, q_len, value_dim) in the dtype of the queries."""
        partials, statistics = self.attend(inputs, example.scalars)
        merged = {"partials": partials, "statistics": statistics}
        merged |= {"signs": self.value_signs, "params": inputs["params"]}
        (out,) = self.combine(merged, example.scalars)
        p = self.problem
        return out.reshape(p.batch, p.kv_heads * p.gqa, p.q_len, p.value_dim)


def build(problem: AttendProblem, backend: str, config: Config | None = None) -> Step:
    """The step with `config`, or with what the tuning records or the default say."""
    combine = CombineProblem(
        problem.value_dim,
        problem.dtype,
        heads=problem.kv_heads * problem.gqa * problem.q_len,
        batch=problem.batch,
        context=problem.context,
    )
    chosen = [registry.choose(p, backend).config for p in (problem, combine)]
    attend_config, combine_config = config or chosen[0], chosen[1]
    if attend_config is None or combine_config is None:
        raise typer.BadParameter(f"{problem}: the records prefer plain MLX operations here.")
    return Step(
        problem,
        registry.compile(problem, attend_config, backend),
        registry.compile(combine, combine_config, backend),
        mx.array(signs(problem.value_dim, VALUE_SEED)),
    )


def relative_error(actual: Any, expected: Any) -> float:
    """Worst row of ||actual - expected|| / ||expected||."""
    actual, expected = (np.asarray(a, np.float64) for a in (actual, expected))
    norms = np.sqrt((expected**2).sum(-1))
    return float((np.sqrt(((actual - expected) ** 2).sum(-1)) / norms).max())


def example_of(step: Step, tokens: int | None = None) -> Example:
    family, config = step.attend.family, step.attend.variant.config
    example: Example = family.example(step.problem, np.random.default_rng(0), tokens, config)
    return example


def error_against_reference(step: Step, tokens: int) -> float:
    """Of the whole step on `tokens` tokens, against float64 on the same codes."""
    example = example_of(step, tokens)
    out = step(example_arrays(example), example)
    return relative_error(to_numpy(out), expected_output(step.problem, example))


def packed_contender(step: Step, backend: str, name: str = "packed") -> tuple[Contender, float]:
    """The chain over rotated inputs, and the error of one step at full size."""
    example = example_of(step)
    nbytes = sum(a.nbytes for a in example.inputs.values())
    sets = [example_arrays(example) for _ in range(copies(nbytes, backend))]
    (expected,) = run_portable(step.problem, sets[0], example)
    error = relative_error(to_numpy(step(sets[0], example)), to_numpy(expected))

    def chain(n: int) -> mx.array:
        out = sets[0]["queries"]
        for i in range(n):
            out = step({**sets[i % len(sets)], "queries": out}, example)
        return out

    return Contender(name, chain), error


def fp16_contender(case: Case, backend: str) -> Contender:
    dtype = mx.float16
    shape = (case.batch, case.kv_heads, case.tokens, case.head_dim)
    keys_and_values = [
        (mx.random.normal(shape, dtype), mx.random.normal(shape, dtype))
        for _ in range(copies(4 * int(np.prod(shape)), backend))
    ]
    queries = mx.random.normal((case.batch, case.heads, 1, case.head_dim), dtype)
    mx.eval(queries, keys_and_values)

    def chain(n: int) -> mx.array:
        out = queries
        for i in range(n):
            keys, values = keys_and_values[i % len(keys_and_values)]
            out = mx.fast.scaled_dot_product_attention(out, keys, values, scale=case.head_dim**-0.5)
        return out

    return Contender("fp16", chain)


def measure(case: Case, backend: str, *, rounds: int, seconds: float) -> dict[str, Any]:
    """One row. Raises RuntimeError where a step is wrong: nothing is timed then."""
    contenders = [fp16_contender(case, backend)]
    row: dict[str, Any] = {"problem": str(case)}
    configs = {}
    for storage in STORAGES:
        step = build(case.problem(storage), backend)
        error = error_against_reference(step, 256 if backend == "emulated" else 1000)
        packed, error_full_size = packed_contender(step, backend, storage)
        if not (error <= ALLOWED and error_full_size <= ALLOWED_FULL_SIZE):
            raise RuntimeError(f"{case}, {storage}: error {error:.2g}, {error_full_size:.2g}.")
        contenders.append(packed)
        configs[storage] = str(step.attend.variant.config)
        row[f"{storage} error"] = error
    times = compare(contenders, backend, rounds=rounds, seconds=seconds)
    row["fp16 us"] = times["fp16"].median * 1e6
    for storage in STORAGES:
        ours = times[storage]
        row[f"{storage} us"] = ours.median * 1e6
        row[f"{storage} x"] = times["fp16"].median / ours.median
        row[f"{storage} quartiles us"] = f"{ours.low * 1e6:.1f} to {ours.high * 1e6:.1f}"
        row[f"{storage} config"] = configs[storage]
    return row


COLUMNS = (
    "problem", "fp16 us", "tiles us", "tiles x",
    "fragment us", "fragment x", "fragment quartiles us", "fragment error",
)  # fmt: skip


def main(
    quick: Annotated[bool, typer.Option(help="Three problems, few samples.")] = False,
    only: Annotated[str, typer.Option(help="Problems whose name contains this.")] = "",
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/attend.json"
    ),
) -> None:
    """Times one decode step of every problem, packed and fp16, in one run."""
    backend = device_backend()
    cases = TINY if backend == "emulated" else QUICK if quick else CASES
    rounds, seconds = (2, 0.02) if quick or backend == "emulated" else (9, 0.05)
    rows = [
        measure(case, backend, rounds=rounds, seconds=seconds)
        for case in cases
        if only in str(case)
    ]
    report("One decode step", backend, COLUMNS, rows, output)


if __name__ == "__main__":
    typer.run(main)
