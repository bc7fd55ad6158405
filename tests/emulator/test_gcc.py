"""The second front end, plain C++ by g++, agrees with the first."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.faulty import Faulty
from tests.emulator.kernel_files import kernels
from tests.emulator.running import run
from tests.emulator.test_execution import ROW_SUM
from tests.emulator.test_faults import run as findings_of
from tqgen_kernels import emulator
from tqgen_kernels.emulator import MetalCompileError, options
from tqgen_kernels.emulator.compiler import find_compiler


def usable(name: str) -> bool:
    try:
        return find_compiler(name).kind == "gcc"
    except MetalCompileError:
        return False


COMPILERS = [name for name in ("g++", "g++-11") if usable(name)]
pytestmark = pytest.mark.skipif(not COMPILERS, reason="no g++ >= 11 here")


@pytest.fixture(autouse=True, params=COMPILERS)
def compiler(request: pytest.FixtureRequest) -> Iterator[str]:
    with options(compiler=shutil.which(request.param)):
        yield request.param


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
def test_arithmetic_vectors_and_swizzles(dtype: mx.Dtype) -> None:
    source = """
    uint i = thread_position_in_grid.x;
    vec<T, 4> v = vec<T, 4>(x[i], T(1), T(2), T(3));
    v.xy = v.yx;
    vec<T, 2> pair = v.wz * T(2) + 1;
    out[i] = pair.x + v.y * T(0.5h) + T(metal::exp(float(x[i])));
    """
    x = mx.arange(20).astype(dtype) / mx.array(8, dtype)
    got = run(source, {"x": x}, threads=20, shape=(20,), dtype=dtype, template=[("T", dtype)])
    half = x * mx.array(0.5, dtype)
    expected = (mx.array(7, dtype) + half) + mx.exp(x.astype(mx.float32)).astype(dtype)
    np.testing.assert_allclose(got, np.array(expected.astype(mx.float32)), rtol=1e-6)


def test_reduction() -> None:
    x = mx.arange(3 * 100, dtype=mx.float32).reshape(3, 100)
    got = run(ROW_SUM, {"x": x}, threads=3 * 64, group=64, shape=(3,), template=[("N", 100)])
    np.testing.assert_array_equal(got, np.array(x).sum(axis=1))


def test_matrices_atomics_and_shuffles() -> None:
    source = """
    uint lane = thread_index_in_simdgroup;
    simdgroup_half8x8 a, b;
    simdgroup_float8x8 c = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    simdgroup_load(a, x);
    simdgroup_load(b, x, 8, ulong2(0, 0), true);
    simdgroup_multiply_accumulate(c, a, b, c);
    simdgroup_store(c, out);
    threadgroup atomic_int total;
    if (lane == 0) atomic_store_explicit(&total, 0, memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    atomic_fetch_add_explicit(&total, int(simd_shuffle_xor(lane, 1)), memory_order_relaxed);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (lane == 0) out[64] = atomic_load_explicit(&total, memory_order_relaxed);
    """
    x = (mx.arange(64) % 5).astype(mx.float16).reshape(8, 8)
    got = run(source, {"x": x}, threads=32, shape=(65,))
    wide = np.array(x).astype(np.float32)
    np.testing.assert_array_equal(got[:64].reshape(8, 8), wide @ wide.T)
    assert got[64] == 31 * 16


CHOSEN = {
    "read_past_the_end", "threadgroup_row_past_the_end", "missing_barrier", "groups_write_one",
    "neighbouring_halves", "output_not_initialised", "return_before_barrier",
    "shuffle_from_inactive", "division_by_zero", "shift_by_32", "negative_to_unsigned",
}  # fmt: skip


@pytest.mark.parametrize(
    ("compiler", "case"),
    [
        pytest.param(name, case, id=f"{name}-{case.name}")
        for name in COMPILERS
        for case in kernels("basics")
        if case.name in (CHOSEN if name == COMPILERS[0] else {"missing_barrier", "shift_by_32"})
    ],
    indirect=["compiler"],
)
def test_faults(case: Faulty, compiler: str) -> None:
    findings = findings_of(case, checks="full", compiler=shutil.which(compiler))
    assert (case.kind, case.line(), case.soft) in [(f.kind, f.line, f.soft) for f in findings]


HALF = r"""
#include "plain/half.h"
int main() {
  unsigned wrong = 0;
  for (unsigned i = 0; i < 65536; ++i) {
    unsigned short bits = (unsigned short)i;
    half ours = __builtin_bit_cast(half, bits);
    _Float16 theirs = __builtin_bit_cast(_Float16, bits);
    float x = ours, y = theirs;
    wrong += __builtin_bit_cast(unsigned, x) != __builtin_bit_cast(unsigned, y) && y == y;
    const float factors[] = {1.0f, 1.0004f, 0.333f, -7.7f, 3e-8f, 4e4f};
    for (float factor : factors) {
      half a = x * factor;
      _Float16 b = (_Float16)(y * factor);
      wrong += a.bits != __builtin_bit_cast(unsigned short, b) && b == b;
    }
    half sum = ours + ours * half(3.0f) - 1;
    _Float16 other = theirs + theirs * (_Float16)3.0f - 1;
    wrong += sum.bits != __builtin_bit_cast(unsigned short, other) && other == other;
  }
  return wrong != 0;
}
"""


def test_half_without_a_type_of_16_bits(compiler: str, tmp_path: Path) -> None:
    if compiler == "g++-11":
        return  # it has nothing to compare with
    types = "".join(f"typedef {t} {n};\n" for t, n in (
        ("signed char", "int8_t"), ("unsigned char", "uchar"), ("unsigned short", "ushort"),
        ("unsigned int", "uint"), ("unsigned long", "ulong"),
    ))  # fmt: skip
    include = Path(emulator.__file__).parent / "include"
    (tmp_path / "half.cpp").write_text(types + HALF)
    subprocess.run(
        [compiler, "-std=c++17", "-O2", "-mf16c", "-I", include, "half.cpp", "-o", "half"],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    assert subprocess.run([tmp_path / "half"], check=False).returncode == 0
