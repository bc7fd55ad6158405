"""What threads tell one another: SIMD and quad functions, atomics, matrices, barriers."""

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.running import run
from tqgen_kernels import emulator

LANES = np.arange(64) % 32


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("simd_sum(v)", np.repeat([496, 496 + 32 * 32], 32)),
        ("simd_max(v)", np.repeat([31, 63], 32)),
        ("simd_min(v)", np.repeat([0, 32], 32)),
        ("simd_prefix_inclusive_sum(1.0f)", LANES + 1),
        ("simd_prefix_exclusive_sum(1.0f)", LANES),
        ("simd_shuffle(v, 3)", np.repeat([3, 35], 32)),
        ("simd_shuffle_xor(v, 5)", np.arange(64) ^ 5),
        ("simd_shuffle_down(v, 1)", np.where(LANES == 31, np.arange(64), np.arange(64) + 1)),
        ("simd_shuffle_up(v, 2)", np.where(LANES < 2, np.arange(64), np.arange(64) - 2)),
        ("simd_shuffle_rotate_down(v, 1)", (LANES + 1) % 32 + np.arange(64) // 32 * 32),
        ("simd_shuffle_and_fill_down(v, -1.0f, 4)", np.where(LANES > 27, -1, np.arange(64) + 4)),
        ("simd_broadcast(v, 7)", np.repeat([7, 39], 32)),
        ("simd_broadcast_first(v)", np.repeat([0, 32], 32)),
        ("simd_all(v >= 32) ? 1 : 0", np.repeat([0, 1], 32)),
        ("simd_any(v == 3) ? 1 : 0", np.repeat([1, 0], 32)),
        ("float(popcount(uint(ulong(simd_ballot(lane < 5)))))", np.full(64, 5)),
        ("float(simd_or(1u << (lane % 4)) + simd_and(6u) + simd_xor(1u))", np.full(64, 21)),
        ("float(simd_sum(half(1)))", np.full(64, 32)),
        ("simd_sum(float2(v, 1)).y", np.full(64, 32)),
        ("simd_shuffle(float4(v), 2).w", np.repeat([2, 34], 32)),
        ("float(simd_shuffle(ulong(v), 2))", np.repeat([2, 34], 32)),
        ("quad_sum(v)", np.arange(64) // 4 * 16 + 6),
        ("quad_broadcast(v, 1)", np.arange(64) // 4 * 4 + 1),
        ("quad_shuffle_xor(v, 3)", np.arange(64) ^ 3),
        ("quad_max(v)", np.arange(64) // 4 * 4 + 3),
    ],
)
def test_simd_and_quad_functions(expression: str, expected: np.ndarray) -> None:
    source = f"""
    uint i = thread_position_in_grid.x;
    uint lane = thread_index_in_simdgroup;
    float v = float(i);
    out[i] = {expression};
    """
    np.testing.assert_array_equal(run(source, threads=64, group=64, shape=(64,)), expected)


def test_atomics() -> None:
    source = """
    uint t = thread_index_in_threadgroup;
    threadgroup atomic_uint most;
    if (t == 0) atomic_store_explicit(&most, 0u, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_max_explicit(&most, t * 3, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&out[0], 1.0f, memory_order_relaxed);
    if (t == 0)
        atomic_store_explicit(
            &out[1], float(atomic_load_explicit(&most, memory_order_relaxed)),
            memory_order_relaxed);
    """
    got = run(source, threads=100, group=50, shape=(2,), init=0, atomic_outputs=True)
    np.testing.assert_array_equal(got, [100, 147])


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("transpose", [False, True])
def test_simdgroup_matrix(dtype: mx.Dtype, transpose: bool) -> None:
    source = """
    threadgroup T tile[8 * K];
    for (uint i = thread_index_in_simdgroup; i < 8 * K; i += 32) tile[i] = a[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    simdgroup_matrix<T, 8, 8> x, y;
    simdgroup_float8x8 sum = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (int k = 0; k < K; k += 8) {
        simdgroup_load(x, tile + k, K);
        if (TRANSPOSE) simdgroup_load(y, b + k, K, ulong2(0, 0), true);
        else simdgroup_load(y, b, 8, ulong2(0, k));
        simdgroup_multiply_accumulate(sum, x, y, sum);
    }
    sum.thread_elements()[1] += 1.0f;
    simdgroup_store(sum, out, 8);
    """
    a, b = (mx.random.randint(-4, 5, shape).astype(dtype) for shape in ((8, 16), (16, 8)))
    got = run(
        source, {"a": a, "b": b.T if transpose else b}, threads=32, shape=(8, 8),
        template=[("T", dtype), ("K", 16), ("TRANSPOSE", transpose)],
    )  # fmt: skip
    expected = np.array(a.astype(mx.float32)) @ np.array(b.astype(mx.float32))
    expected[:, 1::2] += 1
    np.testing.assert_array_equal(got, expected)


def test_divergent_simdgroups_reconverge() -> None:
    source = """
    uint lane = thread_index_in_simdgroup;
    float v = 0;
    for (uint i = 0; i < simdgroup_index_in_threadgroup + 1; ++i) v += simd_sum(1.0f);
    if (simdgroup_index_in_threadgroup == 1) v = simd_max(v + lane);
    out[thread_position_in_grid.x] = v;
    """
    got = run(source, threads=64, group=64, shape=(64,))
    np.testing.assert_array_equal(got, np.repeat([32, 64 + 31], 32))


LAST_GROUP = """
    uint t = thread_index_in_threadgroup, group = threadgroup_position_in_grid.x;
    threadgroup bool last;
    out[1 + group * 32 + t] = float(group + t);
    FENCE
    threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
    if (t == 0) {
        device atomic_uint* count = (device atomic_uint*)counter;
        last = atomic_fetch_add_explicit(count, 1u, memory_order_relaxed) == 3;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (!last) return;
    FENCE
    float s = 0;
    for (uint g = 0; g < 4; ++g) s += out[1 + g * 32 + t];
    s = simd_sum(s);
    if (t == 0) out[0] = s;
"""


@pytest.mark.parametrize("order", ["ascending", "random"])
@pytest.mark.parametrize("fenced", [True, False])
def test_the_last_threadgroup_reads_what_others_published(fenced: bool, order: str) -> None:
    fence = "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);"
    kernel = emulator.metal_kernel(
        name="last",
        input_names=[],
        output_names=["out", "counter"],
        source=LAST_GROUP.replace("FENCE", fence if fenced else ""),
    )

    def launch() -> mx.array:
        return kernel(
            inputs=[], grid=(128, 1, 1), threadgroup=(32, 1, 1),
            output_shapes=[(129,), (1,)], output_dtypes=[mx.float32, mx.uint32], init_value=0,
        )[0]  # fmt: skip

    with emulator.options(order=order):  # type: ignore[arg-type]
        if fenced:
            assert launch()[0].item() == 4 * 496 + 32 * 6
        else:
            with pytest.raises(emulator.MetalFault, match="another threadgroup wrote it"):
                launch()
