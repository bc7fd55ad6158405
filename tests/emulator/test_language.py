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
    threadgroup float a[N], b[2][N];
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


def test_words_of_opencl_are_ordinary_names() -> None:
    source = """
    uint local = 1, global = 2, generic = 3, pipe = 4, read_only = 5, event_t = 6, vec_step = 7;
    out[0] = local + global + generic + pipe + read_only + event_t + vec_step;
    """
    assert run(source)[0] == 28


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
