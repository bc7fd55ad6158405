"""Attention of one prompt chunk over a packed cache: our kernel, the dequantised road, and
scaled_dot_product_attention over an fp16 cache.

    python benchmarks/prompt_chunk.py [--quick] [--every] [--output x.json]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import numpy as np
import typer
from timing import Contender, compare, copies, report

from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.autotuning.roads import by_heads
from tqgen_kernels.backends.compiled import Compiled, example_arrays
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import PrefillProblem
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.execution import registry

FAMILY = FAMILIES["prefill"]
PROBLEMS = [
    PrefillProblem(128, 128, 4, 3, heads=heads, kv_heads=kv_heads, queries=queries, context=tokens)
    for queries in (2048, 128)
    for heads, kv_heads in ((32, 8), (28, 4))
    for tokens in (8192, 32768)
]
QUICK = [PROBLEMS[1], PROBLEMS[5]]
TINY = [PrefillProblem(64, 64, 4, 3, heads=4, kv_heads=2, queries=40, context=256)]
COLUMNS = (
    "heads", "tokens", "queries", "contender", "ms", "x fp16", "TFLOP/s", "error", "config",
)  # fmt: skip
ALLOWED_FULL_SIZE = 1e-2  # of the kernel against the dequantised road, which rounds to fp16


def flops(p: PrefillProblem) -> float:
    """Of both matrix products, without what a causal mask hides."""
    seen = p.context - p.queries / 2
    return 2.0 * p.batch * p.heads * p.queries * seen * (p.key_dim + p.value_dim)


def fp16(p: PrefillProblem, backend: str) -> Contender:
    shape = (p.batch, p.kv_heads, p.context, p.key_dim)
    count = copies(4 * int(np.prod(shape)), backend)
    sets = [[mx.random.normal(shape, mx.float16) for _ in range(2)] for _ in range(count)]
    q = mx.random.normal((p.batch, p.heads, p.queries, p.key_dim), mx.float16)
    mx.eval(q, sets)

    def step(i: int, out: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(
            out, *sets[i % count], scale=p.key_dim**-0.5, mask="causal"
        )

    return Contender("fp16", _chain(step, q))


def _chain(step: Callable[[int, mx.array], mx.array], q: mx.array) -> Callable[[int], mx.array]:
    def chain(n: int) -> mx.array:
        out = q
        for i in range(n):
            out = step(i, out)
        return out

    return chain


def kernels_of(p: PrefillProblem, every: bool) -> list[Any]:
    """The configs to time, those that verified alone."""
    default, *others = candidates(FAMILY, p)
    return [default, *others] if every else [default, *(c for c in others if _near(default, c))]


def _near(default: Any, config: Any) -> bool:
    return sum(default[name] != value for name, value in config.values) == 1


def measure(
    p: PrefillProblem, backend: str, *, every: bool, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Rows of one problem. Raises RuntimeError where a kernel is wrong: nothing is timed then."""
    example = FAMILY.example(p, np.random.default_rng(0))
    nbytes = sum(a.nbytes for a in example.inputs.values())
    sets = [example_arrays(example) for _ in range(copies(nbytes, backend))]
    expected = by_heads(p, sets[0], example)
    scale = mx.linalg.norm(expected.astype(mx.float32))
    contenders, errors, configs = [fp16(p, backend)], {}, {}
    for config in kernels_of(p, every):
        kernel = registry.compile(p, config, backend)
        found = registry.verify(kernel, tokens=300)
        (out,) = kernel(sets[0], {})
        apart = mx.linalg.norm((out - expected).astype(mx.float32)) / scale
        if not apart.item() < ALLOWED_FULL_SIZE:
            raise RuntimeError(f"{p}, {config}: {apart.item():.2g} from the dequantised road.")
        name = f"kernel {len(configs)}"
        errors[name], configs[name] = found.error, str(config)
        contenders.append(Contender(name, _chain(_kernel_step(kernel, sets), sets[0]["queries"])))
    road = _chain(
        lambda i, q: by_heads(p, {**sets[i % len(sets)], "queries": q}, example), sets[0]["queries"]
    )
    contenders.insert(1, Contender("dequantised", road))
    times = compare(contenders, backend, rounds=rounds, seconds=seconds)
    return [
        {
            "heads": f"{p.heads}/{p.kv_heads}",
            "tokens": p.context,
            "queries": p.queries,
            "contender": name,
            "ms": timing.median * 1e3,
            "x fp16": times["fp16"].median / timing.median,
            "TFLOP/s": flops(p) / timing.median / 1e12,
            "error": errors.get(name, ""),
            "config": configs.get(name, ""),
        }
        for name, timing in times.items()
    ]


def _kernel_step(
    kernel: Compiled, sets: list[dict[str, mx.array]]
) -> Callable[[int, mx.array], mx.array]:
    def step(i: int, q: mx.array) -> mx.array:
        return kernel({**sets[i % len(sets)], "queries": q}, {})[0]

    return step


def main(
    quick: Annotated[bool, typer.Option(help="Two problems, fewer samples.")] = False,
    every: Annotated[
        bool, typer.Option(help="Every candidate, not the default's nearest.")
    ] = False,
    only: Annotated[str, typer.Option(help="Only these problems, by place in the list.")] = "",
    rounds: Annotated[int, typer.Option(help="Samples of each, there and back.")] = 3,
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("results/prompt_chunk.json"),
) -> None:
    """Print one table, write JSON. TFLOP/s count what a causal mask leaves."""
    backend = device_backend()
    problems = TINY if backend == "emulated" else QUICK if quick else PROBLEMS
    if only:
        problems = [problems[int(i)] for i in only.split(",")]
    rows = []
    for p in problems:
        rows += measure(p, backend, every=every, rounds=1 if quick else rounds, seconds=0.02)
    report("A prompt chunk", backend, COLUMNS, rows, output)


if __name__ == "__main__":
    typer.run(main)
