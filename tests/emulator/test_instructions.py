"""Instructions counted while a kernel runs: known programs, and the same number every time."""

import mlx.core as mx
import pytest

from tqgen_kernels import emulator
from tqgen_kernels.emulator.compiler import find_compiler
from tqgen_kernels.emulator.instructions import CountingKernel, count_blocks


def counts(source: str, threads: int = 32) -> dict[str, int]:
    kernel = CountingKernel("counted", ["x"], ["y"], source, "", True, False)
    x = mx.random.normal((threads,), key=mx.random.key(0)).astype(mx.float32)
    for _ in range(2):
        before = kernel.counts
        with emulator.options(checks="fast"):
            kernel(
                inputs=[x], output_shapes=[x.shape], output_dtypes=[x.dtype],
                grid=(threads, 1, 1), threadgroup=(32, 1, 1),
            )  # fmt: skip
    after = kernel.counts
    assert all(after[kind] == 2 * before[kind] for kind in after)
    return before


START = "const uint i = thread_position_in_grid.x;\n"


@pytest.mark.parametrize("threads", [32, 96])
@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("y[i] = x[i];", {"memory": 2}),
        ("y[i] = x[i] * 2.0f + 1.0f;", {"memory": 2, "floating": 2}),
        ("y[i] = fma(x[i], 2.0f, 1.0f);", {"memory": 2, "floating": 1}),
        ("y[i] = as_type<float>((as_type<uint>(x[i]) & 255u) << 3);", {"memory": 2, "integer": 2}),
        ("y[i] = float(half(x[i]) * 2.0h);", {"memory": 2, "floating": 1, "convert": 2}),
        ("const half2 h = half2(x[i], 1.0h); const half2 s = h * h; y[i] = s.x + s.y;",
         {"memory": 2, "floating": 2, "convert": 2}),
        ("y[i] = simd_shuffle_xor(x[i], 1);", {"memory": 2, "simd": 1}),
        ("float s = x[i]; for (int k = 0; k < 9; ++k) { s += simd_sum(s); } y[i] = s;",
         {"memory": 2, "floating": 9, "simd": 9}),
    ],
)  # fmt: skip
def test_a_program_counts_as_its_operations(
    source: str, expected: dict[str, int], threads: int
) -> None:
    found = counts(START + source, threads)
    assert {kind: n for kind, n in found.items() if n} == {
        kind: n * threads for kind, n in expected.items()
    }


def test_branches_count_where_they_are_taken() -> None:
    found = counts(
        START + "float s = x[i]; for (uint k = 0; k < i; ++k) { s = s * s + 1.0f; } y[i] = s;"
    )
    assert found["floating"] == 2 * sum(range(32))


def test_only_the_kernel_s_own_functions_get_counters() -> None:
    find_compiler()
    ir = "define void @tq_entry() {\n  %1 = add i32 1, 2\n  ret void\n}\n"
    own = ir.replace("tq_entry", "kernel")
    assert count_blocks(ir)[1] == []
    assert [dict(block) for block in count_blocks(own)[1]] == [{"integer": 1}]
