"""Packed vectors, matrices and structs, in every address space."""

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.running import run
from tqgen_kernels import emulator


def test_member_functions_may_return_references_to_thread_memory() -> None:
    header = """
    struct Fragment {
        float v[4];
        thread float& at(int i) { return v[i]; }
        thread float* begin() thread { return v; }
    };
    inline void set(thread float& x, float y) { x = y; }
    """
    source = "Fragment f; set(f.at(1), 3); f.begin()[2] = 4; out[0] = f.at(1) + f.v[2];"
    assert run(source, header=header)[0] == 7


def test_references_may_be_reinterpreted() -> None:
    source = """
    float2 v = float2(1, 2);
    reinterpret_cast<thread uint2&>(v).x = 0x40400000u;
    device const float4& four = reinterpret_cast<device const float4&>(x[4]);
    out[0] = v.x + four.w;
    """
    assert run(source, {"x": mx.arange(8, dtype=mx.float32)})[0] == 3 + 7


def test_packed_vectors_and_64_bit_integers() -> None:
    source = """
    device const packed_float3* p = (device const packed_float3*)x;
    float3 v = p[1];
    packed_half2 h = half2(1, 2);
    unsigned long long wide = 1ull << 40;
    metal::uint2 two = metal::uint2(3, 4);
    out[0] = v.z + h[1] + float(wide >> 38) + float(sizeof(wide)) + two.y;
    """
    assert run(source, {"x": mx.arange(8, dtype=mx.float32)})[0] == 5 + 2 + 4 + 8 + 4


PACKED = [
    ("packed_float3 p = packed_float3(1, 2, 3);", "p.x + p[1] * p.z", 7),
    ("packed_float3 p(float2(1, 2), 3);", "float3(p).z", 3),
    ("packed_float3 p = {1, 2, 3};", "(p * 2 + 0.5f * p - p)[2]", 4.5),
    ("packed_float3 p = packed_float3(4); p.y = 9; p += float3(1);", "dot(p, p)", 150),
    ("device const packed_float3* q = (device const packed_float3*)x;", "q[1].y + q[1].b", 9),
    ("threadgroup packed_half2 s[2]; s[1] = packed_half2(1, 2); s[1] *= half2(2);", "s[1].y", 4),
    ("packed_char4 c(1, 2, 3, -4);", "float(packed_char4(c.x, c.y, c.z, c.w)[3])", -4),
    ("", "float(sizeof(packed_float3) + alignof(packed_float4) + sizeof(packed_half2))", 20),
]


@pytest.mark.parametrize(("before", "expression", "expected"), PACKED)
def test_packed_vectors(before: str, expression: str, expected: float) -> None:
    text = f"{before} out[0] = {expression};"
    assert run(text, {"x": mx.arange(8, dtype=mx.float32)})[0] == expected


def test_matrices_in_every_address_space() -> None:
    header = "constant float2x2 M = float2x2(1, 2, 3, 4);"
    source = """
    threadgroup float2x2 s[1];
    s[0] = M;
    s[0][1] = float2(5, 6);
    device float2x2* o = (device float2x2*)out;
    o[0] = s[0];
    o[0][0] = M[1];
    """
    assert run(source, header=header, shape=(4,)).tolist() == [3, 4, 5, 6]


STRUCTS = """
struct Pair { float a; float b[2]; };
constant Pair PAIRS[2] = {{1, {2, 3}}, {4, {5, 6}}};
float last(Pair p) { return p.b[1]; }
"""


def test_structs_are_copied_out_of_constant_memory() -> None:
    source = """
    Pair one = PAIRS[0];
    threadgroup Pair shared[1];
    shared[0] = PAIRS[1];
    const constant Pair* p = (const constant Pair*)x;
    Pair given = *p;
    out[0] = one.b[0] + shared[0].a + last(PAIRS[1]) + given.b[1];
    """
    assert run(source, {"x": mx.array([7.0, 8.0, 9.0])}, header=STRUCTS)[0] == 2 + 4 + 6 + 9


def test_address_spaces_are_told_apart_beside_a_copied_struct() -> None:
    source = "Pair one = PAIRS[0]; device float* p = out; threadgroup float* q = p; out[0] = q[0];"
    with pytest.raises(emulator.MetalCompileError, match="address space"):
        run(source, header=STRUCTS)


def test_member_functions_by_address_space() -> None:
    header = """
    template <typename T, size_t N>
    struct Array {
        T elements[N];
        thread T& operator[](size_t i) thread { return elements[i]; }
        threadgroup T& operator[](size_t i) threadgroup { return elements[i]; }
        device T& operator[](size_t i) device { return elements[i]; }
        constexpr const constant T& operator[](size_t i) const constant { return elements[i]; }
    };
    constant Array<float, 2> TABLE = {{5.0f, 6.0f}};
    """
    source = """
    threadgroup Array<float, 4> shared;
    Array<float, 4> own;
    device Array<float, 4>& result = *(device Array<float, 4>*)out;
    uint t = thread_index_in_threadgroup;
    own[t] = TABLE[t % 2] + t;
    shared[t] = own[t];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    result[t] = shared[3 - t];
    """
    got = run(source, header=header, threads=4, group=4, shape=(4,))
    np.testing.assert_array_equal(got, [9, 7, 7, 5])


SYNTAX = [
    ("packed_float3 p(1, 2, 3); p.zx = float2(7, 5);", "p.x * 100 + p.y * 10 + p.z", 527),
    ("packed_float4 q; q.wzyx = float4(1, 2, 3, 4); q.xz = q.zx;", "q.x * 10 + q.z", 24),
    ("packed_float3 a(1, 2, 3); const packed_float3 b(4, 5, 6); a.zx = b.zx;", "a.x + a.z", 10),
    (
        "device packed_float3* p = (device packed_float3*)out; packed_float3 q(1, 2, 3); p[1] = q;",
        "p[1].z", 3,
    ),
    ("float2x2 m = {float2(1, 2), float2(3, 4)};", "m[1].x", 3),
    ("float3x3 m = {{1, 0, 0}, float3(2), {0, 0, x[5]}};", "m[2][2] + m[1].y", 7),
    ("constexpr float2x2 m = {{1, 2}, {3, 4}};", "m[1][1]", 4),
    ("threadgroup float a[4], *p = a; threadgroup float *q = a + 1; a[1] = 3; p[0] = 4;",
     "q[0] + a[0]", 7),
    ("auto m = float4(1, 2, 3, 4) > 2.5f;", "m.x ? 100 : m.z + 2 * int(m.w)", 3),
    ("auto m = float2(1, 2) == 1.0f; auto n = !m;", "float(m.x) + 10 * n.y", 11),
    ("vec<bool, 2> b = vec<bool, 2>(true, false);", "b.x + 10 * any(b) + 100 * all(b)", 11),
    ("auto s = x[1] > 0; auto p = x + 3;", "s + *p", 4),
]  # fmt: skip


@pytest.mark.parametrize(("before", "expression", "expected"), SYNTAX)
def test_vectors_and_matrices(before: str, expression: str, expected: float) -> None:
    text = f"{before} out[0] = {expression};"
    assert run(text, {"x": mx.arange(8, dtype=mx.float32)}, shape=(8,), init=0)[0] == expected
