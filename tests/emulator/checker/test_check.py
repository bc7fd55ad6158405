"""Kernels of .metal files and Python programs: read, run, and reported at the right line."""

from pathlib import Path

import mlx.core as mx
import pytest

from tqgen_kernels import emulator
from tqgen_kernels.emulator.checker.kernels import kernels_of
from tqgen_kernels.emulator.checker.python import place_in_file, run_python
from tqgen_kernels.emulator.checker.run import Given, fuzz
from tqgen_kernels.emulator.faults import MetalCompileError

TWO_KERNELS = """#include <metal_stdlib>
using namespace metal;

constant float HALF = 0.5;
inline float scaled(float x, float a) {
  return a * x;
}

template <typename T, int N>
[[kernel]] void saxpy(
    const device T* x [[buffer(0)]],
    device T* y [[buffer(1)]],
    constant float& a [[buffer(2)]],
    constant uint& n [[buffer(3)]],
    uint i [[thread_position_in_grid]]) {
  if (i < n) {
    y[i] = T(scaled(float(x[i]), a)) * N;
  }
}
template [[host_name("saxpy_f")]] [[kernel]] decltype(saxpy<float, 2>) saxpy<float, 2>;
template [[host_name("saxpy_h")]] [[kernel]] decltype(saxpy<half, 3>) saxpy<half, 3>;

kernel void add(
    device const float4* x [[buffer(0)]],
    device float4* y [[buffer(1)]],
    uint2 p [[thread_position_in_grid]],
    ushort lane [[thread_index_in_simdgroup]])
{
  y[p.x] = x[p.x] + float(lane) + HALF;
}
"""


def found(text: str, **given: object) -> list[tuple[int, str]]:
    """(line, rule) of everything that running the kernels of `text` finds."""
    return [
        (d.line, d.rule)
        for kernel in kernels_of(text)
        for d in fuzz(kernel, Given(**given))[0]  # type: ignore[arg-type]
    ]


def test_kernels_are_read() -> None:
    saxpy, add = kernels_of(TWO_KERNELS)
    assert (saxpy.name, saxpy.line, saxpy.body_line) == ("saxpy", 10, 15)
    assert saxpy.template == (("T", "typename"), ("N", "int"))
    assert saxpy.instances == (("float", "2"), ("half", "3"))
    assert [(b.name, b.dtype, b.is_scalar, b.is_output) for b in saxpy.buffers] == [
        ("x", None, False, False),
        ("y", None, False, True),
        ("a", "float32", True, False),
        ("n", "uint32", True, False),
    ]
    assert [(b.name, b.dtype, b.lanes) for b in add.buffers] == [
        ("x_elements", "float32", 4),
        ("y_elements", "float32", 4),
    ]
    assert add.body_line == 28


def test_the_call_that_is_made_gives_the_results() -> None:
    saxpy, add = kernels_of(TWO_KERNELS)
    kernel = emulator.metal_kernel("saxpy", ["x", "a", "n"], ["y"], saxpy.source, saxpy.header)
    x = mx.arange(8, dtype=mx.float32)
    launch = {"grid": (8, 1, 1), "threadgroup": (8, 1, 1), "output_shapes": [(8,)]}
    (y,) = kernel(
        inputs=[x, 3.0, mx.array(8, mx.uint32)],
        template=[("T", mx.float32), ("N", 2)],
        output_dtypes=[mx.float32],
        **launch,  # type: ignore[arg-type]
    )
    assert y.tolist() == [6.0 * i for i in range(8)]
    kernel = emulator.metal_kernel("add", ["x_elements"], ["y_elements"], add.source, add.header)
    (y,) = kernel(
        inputs=[x],
        grid=(2, 1, 1),
        threadgroup=(2, 1, 1),
        output_shapes=[(8,)],
        output_dtypes=[mx.float32],
    )
    assert y.tolist() == [i + i // 4 + 0.5 for i in range(8)]


def test_correct_kernels_run_without_a_finding() -> None:
    assert found(TWO_KERNELS) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "rule"),
    [
        ("i < n", "i <= n", 17, "out-of-bounds"),
        ("return a * x", "return a * x / float(1 / int(a * 0))", 6, "division-by-zero"),
        ("x[p.x] +", "x[p.x + 1] +", 29, "out-of-bounds"),
        ("y[p.x] =", "y[p.x & 3] =", 29, "race"),
        (" + HALF", " + HALF + UNKNOWN", 29, "compile"),
    ],
)
def test_faults_are_reported_at_their_line(old: str, new: str, line: int, rule: str) -> None:
    assert old in TWO_KERNELS
    assert (line, rule) in found(TWO_KERNELS.replace(old, new))


def test_given_shapes_and_sizes_are_used() -> None:
    text = """kernel void pick(
  const device float* x [[buffer(0)]], device float* out [[buffer(1)]],
  const device int* index [[buffer(2)]], uint3 t [[thread_position_in_grid]]) {
  out[t.y * 4 + t.x] = x[index[t.x]];
}"""
    sizes = {"shapes": {"x": (64,), "index": (4,), "out": (3, 4)}, "grid": (4, 3, 1)}
    assert found(text, **sizes, values={"index": 63}) == []
    assert found(text, **sizes, values={"index": 64}) == [(4, "out-of-bounds")]


def test_names_that_no_kernel_has_are_refused() -> None:
    given = Given(shapes={"z": (1,)})
    with pytest.raises(ValueError, match="no kernel here has a parameter 'z'; they have x, y, a"):
        given.check_names(kernels_of(TWO_KERNELS))


def test_a_template_without_an_instance_asks_for_its_values() -> None:
    text = "\n".join(line for line in TWO_KERNELS.split("\n") if "decltype" not in line)
    with pytest.raises(ValueError, match="--template T=... --template N=..."):
        found(text)
    assert found(text, template={"T": "bfloat", "N": "1"}) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out[0] = 1;", "1:1: no kernel: "),
        ("kernel void f(const device float* x [[buffer(0)]]) {}", "no output"),
        (
            "kernel void f(device float* y [[buffer(0)]],\n"
            "  threadgroup float* s [[threadgroup(0)]]) {}",
            "2:22: 's' is neither a device or constant buffer nor a thread position",
        ),
        (
            "kernel void f(device float* y [[buffer(0)]], device atomic_uint* z [[buffer(1)]]) {}",
            "some outputs are atomic",
        ),
    ],
)
def test_files_that_mlx_could_not_run(text: str, message: str) -> None:
    with pytest.raises(MetalCompileError) as raised:
        kernels_of(text)
    assert message in str(raised.value)


PROGRAM = '''import mlx.core as mx

SOURCE = """
    uint i = thread_position_in_grid.x;
    out[i] = helper(x[i + SHIFT]);
"""
HEADER = """
inline float helper(float x) { return x + 1; }
"""
assert mx.metal.is_available()
kernel = mx.fast.metal_kernel(
    name="shifted", input_names=["x"], output_names=["out"], source=SOURCE, header=HEADER
)
for shift in (0, 1):
    (out,) = kernel(
        inputs=[mx.arange(16.0)], template=[("SHIFT", shift)], grid=(16, 1, 1),
        threadgroup=(16, 1, 1), output_shapes=[(16,)], output_dtypes=[mx.float32],
    )
    mx.eval(out)
unused = mx.fast.metal_kernel(name="unused", input_names=[], output_names=["y"], source="y[0] = 1;")
'''


def test_a_program_is_run_and_its_calls_checked(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    original = mx.fast.metal_kernel
    run = run_python(file)
    assert mx.fast.metal_kernel is original
    assert run.failure is None
    shifted, unused = run.kernels
    assert (shifted.calls, len(shifted.texts), unused.calls) == (2, 2, 0)
    assert [(f.kind, f.line, f.part) for f in shifted.findings] == [("out-of-bounds", 3, "source")]
    assert place_in_file(PROGRAM, shifted.source) == 3
    static = run_python(file, static=True)
    assert [use.findings for use in static.kernels] == [[], []]


def test_a_program_that_fails_says_so(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM + "raise KeyError('gone')\n")
    run = run_python(file)
    assert len(run.kernels) == 2
    assert run.failure is not None
    assert "KeyError: 'gone'" in run.failure.trace
    assert (run.failure.line, run.failure.message) == (PROGRAM.count("\n") + 1, "KeyError: 'gone'")
