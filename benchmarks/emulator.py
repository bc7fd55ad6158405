"""Speed of the Metal emulator on one core: threads a second, a flash decode, a launch, a compile.

python benchmarks/emulator.py [--output emulator.json]
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import typer
from rich import print as show
from rich.table import Table

from tqgen_kernels import emulator
from tqgen_kernels.files import write_atomically

ELEMENTS = 1 << 20
HEADS, TOKENS, HEAD_DIM = 8, 1024, 128

SCALE = "uint i = thread_position_in_grid.x; out[i] = x[i] * 2.0f + 1.0f;"
EXP = "uint i = thread_position_in_grid.x; out[i] = metal::exp(x[i]);"
FLASH = """
    uint d = thread_position_in_threadgroup.x, head = threadgroup_position_in_grid.x;
    threadgroup float part[D / 32];
    float qd = q[head * D + d], m = -INFINITY, l = 0, acc = 0;
    for (int t = 0; t < N; ++t) {
        float s = simd_sum(qd * k[(head * N + t) * D + d]);
        if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        s = 0;
        for (int i = 0; i < D / 32; ++i) s += part[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        float larger = max(m, s), c = exp(m - larger), p = exp(s - larger);
        l = l * c + p;
        acc = acc * c + p * v[(head * N + t) * D + d];
        m = larger;
    }
    out[head * D + d] = acc / l;
"""


def kernel(name: str, inputs: list[str], source: str) -> Any:
    return emulator.metal_kernel(name=name, input_names=inputs, output_names=["out"], source=source)


def best_of(run: Callable[[], object], repeats: int = 5) -> float:
    """Least CPU seconds of a call, after one that compiles."""
    run()
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def elementwise(source: str, n: int = ELEMENTS) -> Callable[[], object]:
    launched, x = kernel("elementwise", ["x"], source), mx.random.normal((n,))
    mx.eval(x)
    return lambda: launched(
        inputs=[x], grid=(n, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(n,)],
        output_dtypes=[mx.float32],
    )  # fmt: skip


def flash_decode() -> Callable[[], object]:
    launched = kernel("flash_decode", ["q", "k", "v"], FLASH)
    q = mx.random.normal((HEADS, HEAD_DIM)) * HEAD_DIM**-0.5
    k, v = mx.random.normal((2, HEADS, TOKENS, HEAD_DIM))
    mx.eval(q, k, v)
    return lambda: launched(
        inputs=[q, k, v], template=[("N", TOKENS), ("D", HEAD_DIM)],
        grid=(HEADS * HEAD_DIM, 1, 1), threadgroup=(HEAD_DIM, 1, 1),
        output_shapes=[(HEADS, HEAD_DIM)], output_dtypes=[mx.float32],
    )  # fmt: skip


def compile_seconds() -> float:
    """Wall seconds of a new variant's first launch, the prelude being there already."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TQGEN_CACHE_DIR"] = folder
        for n in range(4):
            run = elementwise(f"{EXP} // {n}", 256)
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
        del os.environ["TQGEN_CACHE_DIR"]
    return min(times[1:])


def measure(checks: str) -> dict[str, float]:
    with emulator.options(checks=checks):  # type: ignore[arg-type]
        small = elementwise(SCALE, 256)

        def launches() -> None:
            for _ in range(100):
                small()

        return {
            "scale: million threads a second": ELEMENTS / best_of(elementwise(SCALE)) / 1e6,
            "exp: million threads a second": ELEMENTS / best_of(elementwise(EXP)) / 1e6,
            "flash decode, 8 heads x 1024 tokens x 128: ms": best_of(flash_decode()) * 1e3,
            "a launch of 256 threads: ms": best_of(launches) / 100 * 1e3,
            "compile a new variant: ms": compile_seconds() * 1e3,
        }


def main(
    output: Annotated[Path | None, typer.Option(help="write the figures as JSON")] = None,
) -> None:
    figures = {checks: measure(checks) for checks in ("fast", "full")}
    table = Table("", "fast", "full", title="Metal emulator, CPU time on one core")
    for name, value in figures["fast"].items():
        table.add_row(name, f"{value:.3g}", f"{figures['full'][name]:.3g}")
    show(table)
    if output:
        write_atomically(output, (json.dumps(figures, indent=2) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
