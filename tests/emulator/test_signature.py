import random
from typing import Any

import pytest

from tests.emulator.oracle import mlx_text, random_case
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.signature import (
    NEWEST_MLX,
    Dtype,
    GeneratedKernel,
    InputSpec,
    metal_source,
)


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    step, result = 1, []
    for size in reversed(shape):
        result.append(step)
        step *= size
    return tuple(reversed(result))


def generate(
    case: dict[str, Any], *, mlx_version: tuple[int, ...] = NEWEST_MLX, **changes: Any
) -> GeneratedKernel:
    case = {**case, **changes}
    return metal_source(
        case["name"],
        case["input_names"],
        case["output_names"],
        case["source"],
        case["header"],
        case["atomic_outputs"],
        [InputSpec(dtype, tuple(shape), strides(tuple(shape))) for dtype, shape in case["inputs"]],
        case["output_dtypes"],
        [(n, Dtype(v["dtype"]) if isinstance(v, dict) else v) for n, v in case["template"]],
        mlx_version,
    )


CASE: dict[str, Any] = {
    "name": "k",
    "input_names": ["a"],
    "output_names": ["out"],
    "source": "out[thread_position_in_grid.x] = a[0];",
    "header": "",
    "atomic_outputs": False,
    "inputs": [("float32", (16,))],
    "output_dtypes": ["float32"],
    "template": [],
}


def test_text_equals_that_of_mlx() -> None:
    rng = random.Random(1)
    broken = 0
    for _ in range(800):
        case = random_case(rng)
        expected_name, expected = mlx_text(case)
        try:
            generated = generate(case)
        except MetalCompileError:
            # The parameter list that MLX wrote ends more than once.
            assert expected.count("]]) {\n") > 1
            broken += 1
            continue
        assert (generated.kernel_name, generated.text) == (expected_name, expected)
        assert expected.count("]]) {\n") == 1
        lines = generated.text.split("\n")
        source_lines = case["source"].split("\n")
        first = generated.source_first_line - 1
        assert lines[first : first + len(source_lines)] == source_lines
    assert 5 < broken < 200


def test_parameters() -> None:
    generated = generate(
        CASE,
        input_names=["a", "s"],
        inputs=[("float16", (2, 4)), ("int32", ())],
        source="a_shape a_ndim a_strides s_ndim thread_position_in_grid",
        atomic_outputs=True,
    )
    summary = [
        (p.name, p.kind, p.metal_type, p.address_space, p.is_reference, p.buffer_index)
        for p in generated.parameters
    ]
    assert summary == [
        ("a", "input", "float16_t", "device", False, 0),
        ("a_shape", "shape", "int", "constant", False, 1),
        ("a_strides", "strides", "int64_t", "constant", False, 2),
        ("a_ndim", "ndim", "int", "constant", True, 3),
        ("s", "input", "int32_t", "constant", True, 4),
        ("out", "output", "atomic<float>", "device", False, 5),
        ("thread_position_in_grid", "attribute", "uint3", None, False, None),
    ]


def test_several_outputs_with_shape_and_no_attribute_is_explained() -> None:
    broken = {"output_names": ["p", "q"], "output_dtypes": ["float32"] * 2, "source": "a_shape;"}
    with pytest.raises(MetalCompileError, match=r"several outputs \(p, q\).*a_shape.*attribute"):
        generate(CASE, **broken)
    fixed = generate(CASE, **{**broken, "source": "a_shape; thread_position_in_grid;"})
    assert fixed.text.count(") {\n") == 1


def test_minus_sign_in_the_name_before_0_32_4() -> None:
    spec = InputSpec("float32", (16,), (1,))
    arguments: tuple[Any, ...] = ("k", ["a"], ["o"], "", "", False, [spec], ["int8"], [("N", -3)])
    assert metal_source(*arguments).kernel_name == "custom_kernel_k___3_float_int8_t"
    with pytest.raises(MetalCompileError, match="minus sign"):
        metal_source(*arguments, mlx_version=(0, 32, 3))


def test_name_that_is_no_identifier() -> None:
    with pytest.raises(MetalCompileError, match="letters, digits and underscores"):
        generate(CASE, name="my-kernel")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_names": [], "output_dtypes": []}, "at least one output"),
        ({"inputs": []}, "`inputs` to have size 1 but got size 0"),
        ({"output_dtypes": []}, "`output_dtypes` to have size 1 but got size 0"),
        ({"template": [("N", 1.5)]}, "Invalid template argument N = 1.5"),
        ({"template": [("N", "float32")]}, "Invalid template argument"),
        ({"template": [("N", 2**31)]}, "Invalid template argument"),
        ({"template": [("N", -(2**31) - 1)]}, "Invalid template argument"),
        ({"template": [("N", {"dtype": "float8"})]}, "Unknown dtype 'float8'"),
        ({"inputs": [("float64", (16,))]}, "float64 is not supported"),
        ({"output_dtypes": ["float64"]}, "float64 is not supported"),
        (
            {"input_names": [f"x{i}" for i in range(31)], "inputs": [("int8", (16,))] * 31},
            "needs 32 buffers",
        ),
    ],
)
def test_calls_that_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(CASE, **changes)


def test_thirty_one_buffers_are_allowed() -> None:
    names = [f"x{i}" for i in range(30)]
    generated = generate(CASE, input_names=names, inputs=[("int8", (16,))] * 30)
    assert generated.parameters[30].buffer_index == 30
