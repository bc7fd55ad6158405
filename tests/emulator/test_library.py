"""Metal's library over its types: every function, for scalars and vectors, one number each."""

from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest

from tests.emulator.running import run

INTEGERS = {
    "char": 8,
    "uchar": 8,
    "short": 16,
    "ushort": 16,
    "int": 32,
    "uint": 32,
    "long": 64,
    "ulong": 64,
}
FLOATS = ("float", "half", "bfloat")
UNARY = {
    "sin": (0, 0), "cos": (0, 1), "tan": (0, 0), "asin": (0, 0), "acos": (1, 0), "atan": (0, 0),
    "sinh": (0, 0), "cosh": (0, 1), "tanh": (0, 0), "asinh": (0, 0), "acosh": (1, 0),
    "atanh": (0, 0), "exp": (0, 1), "exp2": (3, 8), "exp10": (2, 100), "log": (1, 0),
    "log2": (8, 3), "log10": (100, 2), "sqrt": (4, 2), "rsqrt": (4, 0.5), "fabs": (-2, 2),
    "abs": (-2, 2), "floor": (1.5, 1), "ceil": (1.5, 2), "trunc": (-1.5, -1), "rint": (2.5, 2),
    "round": (2.5, 3), "fract": (1.25, 0.25), "sinpi": (0.5, 1), "cospi": (1, -1),
    "tanpi": (0, 0), "saturate": (2, 1), "sign": (-2, -1),
}  # fmt: skip
SEVERAL = {
    "atan2": ((0, 1), 0), "pow": ((2, 3), 8), "powr": ((2, 3), 8), "fmod": ((7, 4), 3),
    "fmin": ((1, 2), 1), "fmax": ((1, 2), 2), "fdim": ((3, 1), 2), "divide": ((6, 3), 2),
    "copysign": ((2, -1), -2), "step": ((1, 2), 1), "min": ((1, 2), 1), "max": ((1, 2), 2),
    "fma": ((2, 3, 4), 10), "fmin3": ((1, 2, 3), 1), "fmax3": ((1, 2, 3), 3),
    "fmedian3": ((1, 2, 3), 2), "mix": ((1, 3, 0.5), 2), "smoothstep": ((0, 1, 0.5), 0.5),
    "clamp": ((5, 0, 2), 2), "min3": ((1, 2, 3), 1), "max3": ((1, 2, 3), 3),
    "median3": ((1, 2, 3), 2), "nextafter": ((1, 1), 1),
}  # fmt: skip


def integer_cases() -> Iterator[tuple[str, float]]:
    for scalar, bits in INTEGERS.items():
        for length in ("", "2", "3", "4"):
            t, at = scalar + length, ".x" if length else ""
            for call, expected in (
                (f"abs({t}(5))", 5), (f"absdiff({t}(3), {t}(7))", 4),
                (f"addsat({t}(3), {t}(4))", 7), (f"subsat({t}(9), {t}(4))", 5),
                (f"hadd({t}(3), {t}(5))", 4), (f"rhadd({t}(3), {t}(6))", 5),
                (f"mulhi({t}(3), {t}(6))", 0), (f"madhi({t}(3), {t}(6), {t}(2))", 2),
                (f"madsat({t}(3), {t}(6), {t}(2))", 20), (f"popcount({t}(7))", 3),
                (f"clz({t}(1))", bits - 1), (f"ctz({t}(8))", 3),
                (f"reverse_bits(reverse_bits({t}(5)))", 5), (f"rotate({t}(1), {t}(3))", 8),
                (f"extract_bits({t}(0x2C), 2u, 4u)", -5 if scalar[0] != "u" else 11),
                (f"insert_bits({t}(0), {t}(3), 2u, 2u)", 12),
                (f"median3({t}(3), {t}(2), {t}(9))", 3), (f"max3({t}(3), {t}(2), {t}(9))", 9),
                (f"clamp({t}(9), {t}(2), {t}(5))", 5), (f"select({t}(1), {t}(2), true)", 2),
            ):  # fmt: skip
                yield f"float({call}{at})", expected


def float_cases() -> Iterator[tuple[str, float]]:
    for scalar in FLOATS:
        for length in ("",) if scalar == "bfloat" else ("", "2", "3", "4"):
            t, at = scalar + length, ".x" if length else ""
            for name, (x, expected) in UNARY.items():
                yield f"float({name}({t}({x})){at})", expected
            for name, (arguments, expected) in SEVERAL.items():
                given = ", ".join(f"{t}({x})" for x in arguments)
                yield f"float({name}({given}){at})", expected
    for name, (x, expected) in UNARY.items():
        yield f"fast::{name}(float2({x})).y + metal::precise::{name}(float({x}))", 2 * expected


CASES = [*integer_cases(), *float_cases()]
BATCH = 80


@pytest.mark.parametrize("first", range(0, len(CASES), BATCH))
def test_every_function_for_every_type(first: int) -> None:
    cases = CASES[first : first + BATCH]
    source = "\n".join(f"out[{i}] = {text};" for i, (text, _) in enumerate(cases))
    got = run(source, shape=(len(cases),), checks="fast")
    expected = np.array([value for _, value in cases])
    # bfloat keeps 8 bits of a result.
    wrong = np.flatnonzero(~np.isclose(got, expected, rtol=4e-3, atol=1e-3))
    assert [(cases[i][0], got[i]) for i in wrong] == []


EXACT: list[tuple[str, float]] = [
    ("float(mulhi(uchar(128), uchar(4)) + mulhi(char(64), char(8)))", 4),
    ("float(mulhi(long(1) << 62, long(8)) + mulhi(ulong(1) << 63, ulong(4)))", 4),
    ("float(addsat(uchar(250), uchar(10))) + float(addsat(char(120), char(10)))", 255 + 127),
    ("float(madsat(short(300), short(300), short(1)))", 32767),
    ("float(madsat(long(1) << 62, 4l, 0l) == LONG_MAX)", 1),
    ("float(nextafter(half(1), half(2)))", 1 + 2**-10),
    ("float(as_type<ushort>(nextafter(bfloat(1), bfloat(0))))", 0x3F7F),
    ("float(frexp(float2(8), i2).x) + i2.y", 4.5),
    ("float(modf(half2(1.5h), h2).x) + float(h2.y)", 1.5),
    ("sincos(float3(0), f3).x + f3.z", 1),
    ("ldexp(float4(1), int4(3)).w + float(ilogb(half3(8)).z)", 11),
    ("float(isnan(half2(NAN)).x) + float(isordered(float3(1), float3(NAN)).z)", 1),
    ("reflect(float2(1, -1), float2(0, 1)).y + distance_squared(half3(1), half3(2))", 4),
    ("float(mad24(int3(3), int3(4), int3(5)).z + mul24(uint2(3), uint2(4)).y)", 29),
    ("float(pack_float_to_unorm10a2(float4(1, 0, 0, 1)) >> 20)", 3 << 10),
    ("unpack_unorm10a2_to_float(0xC00003FFu).x + unpack_unorm10a2_to_half(0xC0000000u).w", 2),
    ("float(pack_float_to_srgb_unorm4x8(float4(0.2140411f, 0, 0, 1)) & 255u)", 127.5),
    ("unpack_unorm4x8_srgb_to_float(0x000000ffu).x", 1),
    ("float(M_LN2_H > 0.69h && BFLT_MAX > 3e38bf && HUGE_VALH > HALF_MAX && FLT_DIG == 6)", 1),
    ("float(numeric_limits<float>::max_exponent + numeric_limits<half>::digits10)", 131),
    ("float(simd_prefix_inclusive_product(2) + quad_prefix_exclusive_sum(7u))", 2),
    ("float(quad_is_first()) + float(uint64_t(quad_vote::vote_t(quad_ballot(true))))", 2),
    ("float(quad_shuffle_and_fill_up(half2(3), half2(4), 0).y)", 3),
    ("float(is_same_v<remove_pointer_t<device int*>, device int> && extent_v<int[3]> == 3)", 1),
    ("float(conjunction_v<true_type, is_array<int[2]>> && !is_const_v<int>)", 1),
]  # fmt: skip


def test_what_one_lane_gets_exactly() -> None:
    before = "int2 i2; half2 h2; float3 f3;\n"
    source = before + "\n".join(f"out[{i}] = {text};" for i, (text, _) in enumerate(EXACT))
    got = run(source, shape=(len(EXACT),))
    for (text, expected), value in zip(EXACT, got, strict=True):
        assert value == pytest.approx(expected, rel=5e-3), text


BOOLS = [
    ("float2(float2(1, 2) > float2(0, 5)).x", 1),
    ("float(int4(int4(1, 2, 3, 4) == int4(1)).x + (half2(1) < half2(2)).y)", 2),
    ("float(uint(float4(any(float2(0, 1) != 0))[3]))", 1),
    ("float(int2(m).x + int2(m && n).x + int2(!m).y + int2(m ^ n).x)", 1 + 0 + 1 + 1),
    ("float(sizeof(bool2) + sizeof(bool3) + sizeof(bool4))", 10),
    ("select(1.0f, 2.0f, m.x) + select(float2(1), float2(5), m).y", 3),
    ("float(all(bool3(true)) + any(bool4(false, m, true)) + bool4(true).zw.x)", 3),
    ("float3(bool3(m, true)).z + float(bool2(m.yx).y)", 2),
]


def test_vectors_of_bool_hold_zeros_and_ones() -> None:
    before = "bool2 m = float2(1, 2) > float2(0, 5); bool2 n = false; n.y = true;\n"
    source = before + "\n".join(f"out[{i}] = {text};" for i, (text, _) in enumerate(BOOLS))
    assert run(source, shape=(len(BOOLS),)).tolist() == [expected for _, expected in BOOLS]


MIXED = """
uchar4 codes = uchar4(0x21, 0x43, 0x65, 0x87);
float scale = 0.5f;
half4 h = half4(codes & 15) * scale + 1;
codes >>= 4;
codes -= 1;
h *= HALVED(2.0f);
short2 s = 3 * short2(1, 2);
out[0] = float(h.x) + codes.y + s.y + float(both(half2(1), 0.25f).y) + both(1.0f, 0.25f);
"""


def test_a_scalar_takes_the_type_of_the_vector_it_meets() -> None:
    header = """
    #define HALVED(x) (h.xxxx * 0.0f + (x) * 0.5f)
    template <typename V> V both(V v, float s) { return v * s + (s + 1) * v; }
    """
    assert run(MIXED, header=header)[0] == 1.5 + 3 + 6 + 1.5 + 1.5


DECLARATIONS = """
float4 v(1, 2, 3, 4), w(0);
for (float2 p(v.xy); p.x < 3; p.x += 1) w.xy += p;
half2 h = (half2)v.zw;
T t(2.5f);
out[0] = w.x + w.y + float(h.y) + ((float2)h).x * 2 + float((T)t);
out[0] += -((float3)v.xyz).z + -(float)h.x * 0;
"""


def test_vectors_are_declared_and_cast_as_in_c() -> None:
    got = run(DECLARATIONS, template=[("T", mx.float16)])
    assert got[0] == 3 + 4 + 4 + 6 + 2.5 - 3


PACKED = [
    ("float3(p.zyx).x + p.xy.y", 5),
    ("length(q.xy)", 5),
    ("K.y + L[1].z + M.x", 9),
    ("float((packed_int2(7, 8) % 3).y + (packed_uint2(1, 2) << 1u).y)", 6),
    ("float(packed_uchar4(uchar4(1, 2, 3, 4)).w)", 4),
    ("(p == q).x ? 1 : 0", 0),
]


def test_packed_vectors_in_constant_memory_and_by_component() -> None:
    header = """
    constant packed_float3 K = {1, 2, 3};
    constant packed_float3 L[2] = {{1, 2, 3}, packed_float3(4, 5, 6)};
    constexpr constant packed_float3 M = packed_float3(1, 2, 3);
    """
    before = "packed_float3 p(1, 2, 3), q = p; q.xy = float2(3, 4); q.z = 0;\n"
    source = before + "\n".join(f"out[{i}] = {text};" for i, (text, _) in enumerate(PACKED))
    got = run(source, shape=(len(PACKED),), header=header)
    assert got.tolist() == [expected for _, expected in PACKED]
