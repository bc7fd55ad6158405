"""Kernels give the results that MLX's own operations give."""

from concurrent.futures import ThreadPoolExecutor

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


def test_empty_arrays_scalar_outputs_and_empty_grids() -> None:
    kernel = emulator.metal_kernel(
        name="edges", input_names=["x"], output_names=["out"], source="out[0] = 3 + x_ndim;"
    )

    def launch(x: mx.array, shape: tuple[int, ...], threads: int) -> mx.array:
        return kernel(
            inputs=[x], grid=(threads, 1, 1), threadgroup=(32, 1, 1), output_shapes=[shape],
            output_dtypes=[mx.float32], init_value=7,
        )[0]  # fmt: skip

    assert launch(mx.zeros((0,)), (), 1).item() == 4
    assert launch(mx.zeros((2, 0)), (1,), 1).item() == 5
    assert launch(mx.zeros((4,)), (), 0).item() == 7
    with pytest.raises(emulator.MetalFault, match=r"write to out\[0\]"):
        launch(mx.zeros((4,)), (0,), 1)


def test_a_large_launch_after_a_small_one_and_back() -> None:
    kernel = emulator.metal_kernel(
        name="sizes",
        input_names=["x"],
        output_names=["out"],
        source="uint i = thread_position_in_grid.x; out[i] = x[i] + 1;",
    )
    for size in (3, 5_000_001, 17, 100_000, 1):
        x = mx.arange(size).astype(mx.float32)
        (out,) = kernel(
            inputs=[x], grid=(size, 1, 1), threadgroup=(256, 1, 1), output_shapes=[(size,)],
            output_dtypes=[mx.float32],
        )  # fmt: skip
        assert mx.array_equal(out, x + 1)


def test_threads_of_python_may_launch_at_once() -> None:
    kernel = emulator.metal_kernel(
        name="shared",
        input_names=["x"],
        output_names=["out"],
        source="uint i = thread_position_in_grid.x; out[i] = simd_sum(x[i]);",
    )

    def launch(n: int) -> bool:
        x = np.full((64,), n, np.float32)
        (out,) = kernel(
            inputs=[mx.array(x)], grid=(64, 1, 1), threadgroup=(64, 1, 1), output_shapes=[(64,)],
            output_dtypes=[mx.float32],
        )  # fmt: skip
        return bool((np.array(out) == 32 * n).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(launch, range(40)))


def test_after_a_fault_the_next_launch_is_clean() -> None:
    kernel = emulator.metal_kernel(
        name="recovers",
        input_names=["x"],
        output_names=["out"],
        source="""
        uint i = thread_position_in_grid.x;
        threadgroup float s[32];
        s[i % 32] = x[0];
        if (x[0] == 1 && i == 3) return;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = s[31 - i];
        """,
    )

    def launch(value: float) -> mx.array:
        return kernel(
            inputs=[mx.full((8,), value)], grid=(32, 1, 1), threadgroup=(32, 1, 1),
            output_shapes=[(32,)], output_dtypes=[mx.float32],
        )[0]  # fmt: skip

    for _ in range(3):
        with pytest.raises(emulator.MetalFault):
            launch(1.0)
        assert mx.array_equal(launch(2.0), mx.full((32,), 2.0))


@pytest.mark.parametrize(
    ("mode", "expected"), [(None, 0), ("safe", 0), ("relaxed", 0), ("fast", 1)]
)
def test_fast_math_is_announced_to_the_source(mode: str | None, expected: float) -> None:
    source = """
    #if defined(__FAST_MATH__) && __FAST_MATH__
    out[0] = x[0] + 1;
    #else
    out[0] = x[0];
    #endif
    """
    kernel = emulator.metal_kernel(
        name="mode",
        input_names=["x"],
        output_names=["out"],
        source=source,
        compile_options=None if mode is None else {"math_mode": mode},
    )
    (out,) = kernel(
        inputs=[mx.zeros((1,))],
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
        output_shapes=[(1,)],
        output_dtypes=[mx.float32],
    )
    assert out.item() == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"math_mode": "precise"}, "'safe', 'relaxed', or 'fast', but got 'precise'"),
        ({"math_mode": None}, "'safe', 'relaxed', or 'fast', but got None"),
        ({"unknown": 1}, "Unknown compile option `unknown`"),
        (5, "to be a dict, but got int"),
    ],
)
def test_compile_options_that_mlx_refuses(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emulator.metal_kernel(
            name="mode",
            input_names=["x"],
            output_names=["out"],
            source="",
            compile_options=given,  # type: ignore[arg-type]
        )


def test_rules_are_those_of_the_installed_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> mx.array:
        kernel = emulator.metal_kernel(
            name="negative", input_names=["x"], output_names=["out"], source="out[0] = x[0] + N;"
        )
        return kernel(
            inputs=[mx.ones((1,))],
            template=[("N", -3)],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.float32],
        )[0]

    monkeypatch.setattr("tqgen_kernels.emulator.kernel._mlx_version", lambda: (0, 32, 4))
    assert call().item() == -2
    monkeypatch.setattr("tqgen_kernels.emulator.kernel._mlx_version", lambda: (0, 32, 3))
    with pytest.raises(emulator.MetalCompileError, match="minus sign"):
        call()
