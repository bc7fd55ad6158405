"""A call: what goes in and comes out, and what MLX does around it."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.running import run
from tqgen_kernels import emulator


def test_attributes_in_ragged_threadgroups() -> None:
    source = """
    uint3 p = thread_position_in_grid;
    uint n = threads_per_grid.x * threads_per_grid.y;
    uint i = p.y * threads_per_grid.x + p.x;
    out[i] = threadgroup_position_in_grid.x * 1000 + threadgroup_position_in_grid.y * 100
        + threads_per_threadgroup.x * 10 + threads_per_threadgroup.y;
    out[n + i] = thread_position_in_threadgroup.y * threads_per_threadgroup.x
        + thread_position_in_threadgroup.x == thread_index_in_threadgroup;
    out[2 * n + i] = dispatch_threads_per_threadgroup.x * 10 + threadgroups_per_grid.x;
    """
    got = run(source, threads=(10, 5, 1), group=(4, 3, 1), shape=(3, 5, 10))
    y, x = np.mgrid[:5, :10]
    width, height = np.where(x // 4 == 2, 2, 4), np.where(y // 3 == 1, 2, 3)
    np.testing.assert_array_equal(got[0], x // 4 * 1000 + y // 3 * 100 + width * 10 + height)
    assert (got[1] == 1).all()
    assert (got[2] == 43).all()


def test_shape_strides_and_ndim_of_a_transposed_input() -> None:
    x = mx.arange(24, dtype=mx.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    source = """
    uint i = thread_position_in_grid.x;
    out[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];
    """
    got = run(source, {"x": x}, threads=24, shape=(4, 2, 3), ensure_row_contiguous=False)
    np.testing.assert_array_equal(got, np.array(x))
    plain = run(
        "uint i = thread_position_in_grid.x; out[i] = x[i];",
        {"x": x}, threads=24, shape=(4, 2, 3),
    )  # fmt: skip
    np.testing.assert_array_equal(plain, np.array(x))


def test_a_reversed_view_keeps_its_negative_stride() -> None:
    x = mx.arange(10, dtype=mx.float32)[::-1]
    source = "int i = thread_position_in_grid.x; out[i] = x[i * x_strides[0]];"
    got = run(source, {"x": x}, threads=10, shape=(10,), ensure_row_contiguous=False)
    np.testing.assert_array_equal(got, np.arange(10)[::-1])


def test_scalars_and_small_inputs() -> None:
    source = "out[0] = scale * small[1] + (flag ? 1.0f : 0.0f) + float(n);"
    inputs = {"scale": 2.5, "small": mx.array([1.0, 4.0]), "flag": mx.array(True), "n": 7}
    assert run(source, inputs)[0] == 18


def test_template_arguments() -> None:
    source = "out[0] = T(N) + (FLAG ? T(1) : T(0)) + T(sizeof(T));"
    template = [("T", mx.float16), ("N", -3), ("FLAG", True)]
    assert run(source, template=template, dtype=mx.float16)[0] == 0


def test_init_value_fills_what_is_not_written() -> None:
    got = run("if (thread_position_in_grid.x == 1) out[1] = 9;", threads=4, shape=(4,), init=2.5)
    np.testing.assert_array_equal(got, [2.5, 9, 2.5, 2.5])


@pytest.mark.parametrize(
    ("dtype", "metal"),
    [
        (mx.bool_, "bool"), (mx.int8, "int8_t"), (mx.uint8, "uint8_t"), (mx.int16, "short"),
        (mx.uint16, "ushort"), (mx.int32, "int"), (mx.uint32, "uint"), (mx.int64, "int64_t"),
        (mx.uint64, "ulong"), (mx.float16, "half"), (mx.bfloat16, "bfloat16_t"),
        (mx.float32, "float"), (mx.complex64, "complex64_t"),
    ],
    ids=str,
)  # fmt: skip
def test_every_dtype_goes_in_and_out(dtype: mx.Dtype, metal: str) -> None:
    x = mx.array([0, 1, 1, 0, 1, 0, 1, 1, 0, 1]).astype(dtype)
    kernel = emulator.metal_kernel(
        name="copy",
        input_names=["x"],
        output_names=["out"],
        source=f"uint i = thread_position_in_grid.x; {metal} v = x[i]; out[i] = v;",
    )
    (out,) = kernel(
        inputs=[x], grid=(10, 1, 1), threadgroup=(10, 1, 1), output_shapes=[(10,)],
        output_dtypes=[dtype],
    )  # fmt: skip
    assert out.dtype == dtype
    assert mx.array_equal(out, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threadgroup": (0, 1, 1)}, "threadgroup"),
        ({"grid": (-1, 1, 1)}, "grid"),
        ({"grid": (1, 1, 1, 1)}, "grid"),
        ({"output_shapes": []}, "output_shapes"),
        ({"inputs": [mx.zeros((1,))]}, "inputs"),
        ({"template": [("T", 1.5)]}, "1.5"),
        ({"output_dtypes": [mx.float64]}, "float64"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    kernel = emulator.metal_kernel(
        name="case", input_names=[], output_names=["out"], source="out[0] = 1;"
    )
    call: dict[str, Any] = {
        "inputs": [], "grid": (1, 1, 1), "threadgroup": (1, 1, 1), "output_shapes": [(1,)],
        "output_dtypes": [mx.float32],
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        kernel(**{**call, **arguments})


def test_gradients_flow_through_a_custom_function() -> None:
    kernel = emulator.metal_kernel(
        name="cube",
        input_names=["x"],
        output_names=["out"],
        source="uint i = thread_position_in_grid.x; out[i] = x[i] * x[i] * x[i];",
    )

    def launch(x: mx.array) -> mx.array:
        return kernel(
            inputs=[x], grid=(x.size, 1, 1), threadgroup=(8, 1, 1), output_shapes=[x.shape],
            output_dtypes=[x.dtype],
        )[0]  # fmt: skip

    cube = mx.custom_function(launch)
    cube.vjp(lambda primals, cotangent, output: cotangent * 3 * primals * primals)
    x = mx.arange(10, dtype=mx.float32)
    assert mx.array_equal(mx.grad(lambda x: cube(x).sum())(x), 3 * x * x)


def test_inside_a_transformation_the_advice_is_given() -> None:
    kernel = emulator.metal_kernel(
        name="one", input_names=["x"], output_names=["out"], source="out[0] = x[0];"
    )

    def launch(x: mx.array) -> mx.array:
        return kernel(
            inputs=[x], grid=(1, 1, 1), threadgroup=(1, 1, 1), output_shapes=[(1,)],
            output_dtypes=[x.dtype],
        )[0]  # fmt: skip

    with pytest.raises(RuntimeError, match="disable_compile"):
        mx.compile(launch)(mx.zeros((8,)))
