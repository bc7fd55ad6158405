"""What Metal text may say, and what it means."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.running import run
from tqgen_kernels import emulator


def value(expression: str, before: str = "", dtype: mx.Dtype = mx.float32, header: str = "") -> Any:
    out = run(f"{before}\nout[0] = {expression};", dtype=dtype, header=header)
    return out[0].item()


EXPRESSIONS: list[tuple[str, float]] = [
    ("float4(1, 2, 3, 4).wzyx.x", 4),
    ("float4(float2(1, 2), 3, 4).z", 3),
    ("float4(1, float3(2, 3, 4)).w", 4),
    ("float4(5).y", 5),
    ("dot(float4(1, 2, 3, 4), float4(half4(1, 1, 2, 2)))", 17),
    ("float2(int2(3, 4)).y", 4),
    ("vec<float, 3>(1, 2, 3).yz.y", 3),
    ("metal::float4(1, 2, 3, 4).w", 4),
    ("float(uint4(7, 8, 9, 10)[2])", 9),
    ("float(uchar4(255, 1, 2, 3).x)", 255),
    ("length(float2(3, 4))", 5),
    ("cross(float3(1, 0, 0), float3(0, 1, 0)).z", 1),
    ("float(cross(half3(1, 0, 0), half3(0, 1, 0)).z)", 1),
    ("reflect(float2(1, -1), float2(0, 1)).y", 1),
    ("refract(float2(0, -1), float2(0, 1), 1.0f).y", -1),
    ("refract(float2(0.8f, -0.6f), float2(0, 1), 2.0f).x", 0),
    ("faceforward(float2(0, 1), float2(0, 1), float2(0, 1)).y", -1),
    ("float(madsat(2147483647, 2, 1))", 2**31),
    ("float(madsat(4294967295u, 2u, 1u))", 2**32),
    ("determinant(float2x2(1, 2, 3, 4))", -2),
    ("determinant(float3x3(float3(2, 0, 1), float3(0, 3, 0), float3(1, 0, 4)))", 21),
    ("determinant(float4x4(2.0f))", 16),
    ("(2.0f * float2x2(1.0f) + float2x2(1.0f) * 3.0f - float2x2(1.0f))[1].y", 4),
    ("(float2(1, 2) * float2x3(float3(1), float3(2)).columns[0].xy).y", 2),
    ("(float3(1, 2, 3) * float2x3(float3(1), float3(2))).y", 12),
    ("transpose(float2x3(float3(1, 2, 3), float3(4, 5, 6)))[2].y", 6),
    ("unpack_unorm4x8_to_float(0xff0000ffu).w", 1),
    ("unpack_snorm2x16_to_float(0x80007fffu).y", -1),
    ("float(pack_float_to_unorm4x8(float4(1, 0.5f, -1, NAN)))", 0x80FF),
    ("float(pack_half_to_snorm2x16(half2(-1, 0)))", 0x8001),
    ("float(unpack_unorm2x16_to_half(0xffff0000u).y)", 1),
    ("float(pack_float_to_unorm565(float3(1, 0, 0.5f)))", 31 + (16 << 11)),
    ("float(unpack_unorm565_to_half(ushort(63 << 5)).y)", 1),
    ("mix(1.0f, 3.0f, 0.25f)", 1.5),
    ("clamp(5.0f, 0.0f, 2.0f)", 2),
    ("saturate(1.5f)", 1),
    ("select(1.0f, 2.0f, true)", 2),
    ("select(float2(1, 2), float2(3, 4), float2(1, 2) > 1.5f).y", 4),
    ("any(float2(1, 2) > 1.5f) ? 1 : 0", 1),
    ("all(float2(1, 2) > 1.5f) ? 1 : 0", 0),
    ("float(popcount(0xF0F0u))", 8),
    ("float(clz(1u))", 31),
    ("float(ctz(8u))", 3),
    ("float(reverse_bits(1u) >> 31)", 1),
    ("float(extract_bits(0xABCDu, 4, 8))", 0xBC),
    ("float(insert_bits(0u, 5u, 4, 4))", 80),
    ("float(rotate(1u, 33u))", 2),
    ("float(mulhi(0x80000000u, 4u))", 2),
    ("float(absdiff(3, 7))", 4),
    ("float(max(3, 7) + min(2u, 9u))", 9),
    ("max3(1.0f, 5.0f, 2.0f) + median3(1.0f, 5.0f, 2.0f)", 7),
    ("as_type<float>(0x40490fdbu)", np.float32(np.pi)),
    ("float(as_type<ushort>(half(1.0)))", 0x3C00),
    ("float(as_type<uint>(half2(1, 2)) >> 16)", 0x4000),
    ("float(0.1h) * 4", 4 * np.float32(np.float16(0.1))),
    ("float(1.0bf + 0.5bf)", 1.5),
    ("float(half(1.0) / half(3.0))", np.float32(np.float16(1) / np.float16(3))),
    ("float(bfloat(1.001f))", 1.0),
    ("float(static_cast<half>(bfloat(3.0f)))", 3),
    ("float(static_cast<bfloat16_t>(half(3.0f)))", 3),
    ("fast::exp(0.0f) + precise::log(1.0f) + metal::precise::sqrt(4.0f)", 3),
    ("powr(2.0f, 3.0f) + exp2(3.0f) + exp10(1.0f)", 26),
    ("fma(2.0f, 3.0f, 4.0f) + fmod(7.0f, 4.0f)", 13),
    ("rsqrt(4.0f) + rint(2.5f) + round(2.5f) + trunc(-2.5f)", 3.5),
    ("sign(-3.0f) + step(1.0f, 2.0f) + fract(1.25f)", 0.25),
    ("ldexp(1.0f, 3) + float(ilogb(8.0f))", 11),
    ("copysign(2.0f, -1.0f) + fdim(3.0f, 1.0f)", 0),
    ("isnan(NAN) && isinf(INFINITY) && !isfinite(INFINITY) ? 1 : 0", 1),
    ("max(NAN, 1.0f) + min(1.0f, NAN)", 2),
    ("exp(-INFINITY)", 0),
    ("M_PI_F", np.float32(np.pi)),
    ("metal::numeric_limits<float>::max() > 1e38 ? 1 : 0", 1),
    ("Limits<half>::finite_max > 65000 ? 1 : 0", 1),
    ("float(ceildiv(7, 2))", 4),
    ("is_same_v<T0, float> ? 1 : 0", 1),
    ("float(sizeof(float3)) + float(sizeof(half4))", 24),
]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """All expressions, by one kernel."""
    lines = "\n".join(f"out[{i}] = {text};" for i, (text, _) in enumerate(EXPRESSIONS))
    return run(lines, header="typedef float T0;\n", shape=(len(EXPRESSIONS),))


@pytest.mark.parametrize("i", range(len(EXPRESSIONS)), ids=lambda i: EXPRESSIONS[i][0])
def test_expressions(i: int, values: np.ndarray) -> None:
    assert values[i] == pytest.approx(float(EXPRESSIONS[i][1]), 1e-6)


def test_swizzles_can_be_written() -> None:
    assert value("v.x * 100 + v.y * 10 + v.z", "float3 v = 0; v.xz = float2(1, 3); v.y = 2;") == 123


def test_packing_and_unpacking_codes() -> None:
    words = mx.random.randint(0, 2**31, (64,)).astype(mx.uint32)
    got = run(
        """
        uint i = thread_position_in_grid.x;
        uint w = words[i / 8];
        out[i] = float((w >> (4 * (i % 8))) & 15u);
        """,
        {"words": words},
        threads=512,
        shape=(512,),
    )
    expected = (np.array(words)[:, None] >> (4 * np.arange(8, dtype=np.uint32))) & 15
    np.testing.assert_array_equal(got, expected.reshape(-1))


def test_constant_tables_structs_and_function_templates() -> None:
    header = """
    constant float TABLE[4] = {1.0f, -2.0f, 0.5f, 4.0f};
    constexpr constant int SCALE = 3;
    struct Pair {
        float a;
        float b;
        float sum() const { return a + b; }
        Pair swapped() const thread { return {b, a}; }
    };
    template <typename T, int N>
    METAL_FUNC T total(thread const T* v) {
        T s = 0;
        #pragma clang loop unroll(full)
        for (int i = 0; i < N; i++) s += v[i];
        return s;
    }
    template <typename U>
    U twice(U x) { return U(x) + U(x); }
    inline float pick(constant float* table, uint i) { return table[i]; }
    #define CUBE(x) ((x) * (x) * (x))
    """
    source = """
    float v[4];
    for (uint i = 0; i < 4; ++i) v[i] = TABLE[i] * SCALE;
    Pair p{1.0f, 2.0f};
    out[0] = total<float, 4>(v) + p.sum() + p.swapped().a + twice(half(2)) + CUBE(2.0f)
        + pick(TABLE, 1);
    """
    assert run(source, header=header)[0] == 10.5 + 3 + 2 + 4 + 8 - 2


def test_threadgroup_declarations() -> None:
    source = """
    constexpr int N = 16;
    threadgroup float a[N > 8 ? N : 8], b[2][N];
    threadgroup half4 v[4];
    threadgroup int count;
    threadgroup float* p = &b[1][0];
    uint t = thread_index_in_threadgroup;
    a[t] = t; b[0][t] = 2 * t; p[t] = 3 * t;
    if (t < 4) v[t] = half4(t);
    if (t == 0) count = 5;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    uint o = N - 1 - t;
    out[t] = a[o] + b[0][o] + b[1][o] + float(v[t % 4].z) + count;
    """
    t = np.arange(16)
    expected = 6 * (15 - t) + t % 4 + 5
    np.testing.assert_array_equal(run(source, threads=16, group=16, shape=(16,)), expected)


def test_compile_errors_have_the_authors_lines() -> None:
    with pytest.raises(emulator.MetalCompileError) as raised:
        run("float a = 1;\n\nfloat b = undeclared;\nout[0] = a + b;")
    assert "case:3:" in str(raised.value)
    assert "undeclared" in str(raised.value)
    with pytest.raises(emulator.MetalCompileError) as raised:
        run("out[0] = helper();", header="inline float helper() {\n  return oops;\n}\n")
    assert "case.header:2:" in str(raised.value)


def test_what_is_not_modelled_is_said() -> None:
    with pytest.raises(emulator.MetalCompileError, match="no textures, tensors or asynchronous"):
        run("simdgroup_event e; out[0] = 1;")


def test_address_spaces_are_real() -> None:
    with pytest.raises(emulator.MetalCompileError, match="lvalue of type 'threadgroup float"):
        run("threadgroup float s[4]; device float* p = s; out[0] = p[0];")


def test_words_of_opencl_are_ordinary_names() -> None:
    source = """
    uint local = 1, global = 2, generic = 3, pipe = 4, read_only = 5, event_t = 6, vec_step = 7;
    out[0] = local + global + generic + pipe + read_only + event_t + vec_step;
    """
    assert run(source)[0] == 28


def test_loops_switches_and_ternaries_keep_their_meaning() -> None:
    source = """
    int total = 0;
    for (short i = 0; i < 10; ++i) {
        if (i == 3) continue;
        switch (i % 3) {
            case 0: total += 1; break;
            case 1: total += 10; [[fallthrough]];
            default: total += 100;
        }
        if (i == 8) break;
    }
    do { total++; } while (total % 7);
    thread float big = total > 5 ? float(total) : 0.0f;
    auto f = [&](float x) { return x * 2; };
    out[0] = f(big);
    """
    total = sum({0: 1, 1: 110, 2: 100}[i % 3] for i in range(9) if i != 3) + 1
    while total % 7:
        total += 1
    assert run(source)[0] == 2 * total


def test_variables_written_later_raise_no_finding() -> None:
    source = """
    uint i = thread_position_in_grid.x;
    float best[4], least, most;
    half h[2][3];
    float4 v;
    for (int k = 0; k < 4; ++k) best[k] = x[i] - k;
    if (i % 2) { least = best[3]; } else { least = best[2]; }
    most = NAN;
    v.x = best[0];
    v.yzw = 0;
    for (int k = 0; k < 6; ++k) h[k / 3][k % 3] = half(k);
    out[i] = (isnan(most) ? least : 0) + v.x + float(h[1][2]);
    """
    got = run(source, {"x": mx.arange(16, dtype=mx.float32)}, threads=16, shape=(16,))
    i = np.arange(16)
    np.testing.assert_array_equal(got, 2 * i - np.where(i % 2, 3, 2) + 5)
