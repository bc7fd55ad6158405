"""Kernels give the results that MLX's own operations give."""

import mlx.core as mx
import numpy as np
import pytest

from tqgen_kernels import emulator

ELEMENTWISE = """
    uint elem = thread_position_in_grid.x;
    T x = inp[elem];
    out[elem] = metal::exp(x) * T(2) + T(0.5h);
"""


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_elementwise(dtype: mx.Dtype, size: int) -> None:
    kernel = emulator.metal_kernel(
        name="scaled_exp", input_names=["inp"], output_names=["out"], source=ELEMENTWISE
    )
    x = mx.random.normal((size,), key=mx.random.key(size)).astype(dtype)
    (out,) = kernel(
        inputs=[x],
        template=[("T", dtype)],
        grid=(size, 1, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[dtype],
    )
    expected = mx.exp(x) * mx.array(2, dtype) + mx.array(0.5, dtype)
    assert out.dtype == dtype
    assert mx.allclose(
        out.astype(mx.float32), expected.astype(mx.float32), rtol=1e-5 if dtype == mx.float32 else 0
    )


ROW_SUM = """
    threadgroup float part[32];
    uint t = thread_position_in_threadgroup.x;
    uint row = threadgroup_position_in_grid.x;
    float s = 0;
    for (uint i = t; i < N; i += threads_per_threadgroup.x) s += x[row * N + i];
    s = simd_sum(s);
    if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (simdgroup_index_in_threadgroup == 0) {
        uint lane = thread_index_in_simdgroup;
        float v = lane < simdgroups_per_threadgroup ? part[lane] : 0.0f;
        v = simd_sum(v);
        if (lane == 0) out[row] = v;
    }
"""


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_reduction_over_simdgroups(order: str) -> None:
    kernel = emulator.metal_kernel(
        name="row_sum", input_names=["x"], output_names=["out"], source=ROW_SUM
    )
    x = mx.arange(5 * 700, dtype=mx.float32).reshape(5, 700) % 97
    with emulator.options(order=order):  # type: ignore[arg-type]
        (out,) = kernel(
            inputs=[x],
            template=[("N", 700)],
            grid=(5 * 128, 1, 1),
            threadgroup=(128, 1, 1),
            output_shapes=[(5,)],
            output_dtypes=[mx.float32],
        )
    np.testing.assert_array_equal(np.array(out), np.array(x).sum(axis=1))
