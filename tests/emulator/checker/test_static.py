"""Every rule of the static check, on a bad text with the line it is found on; and good texts."""

import pytest

from tqgen_kernels.emulator.checker.static import check
from tqgen_kernels.emulator.checker.tokens import check_tokens

KERNEL = """[[kernel]] void k(
  const device float* a [[buffer(0)]],
  device float* out [[buffer(1)]],
  uint3 thread_position_in_grid [[thread_position_in_grid]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]]) {
  uint i = thread_position_in_grid.x;
%s
}
"""

# rule, code before the kernel, body; the bad line ends in //!
BAD = [
    ("double", "", "out[i] = (double)a[i]; //!"),
    ("double", "", "double4 v = 0; //!"),
    ("double", "constant double W = 1; //!", "out[i] = W;"),
    ("double", "template <typename T> T f(T x) { return x; }", "out[i] = f<double>(a[i]); //!"),
    ("recursion", "float f(float x) { return x > 0 ? f(x - 1) : x; } //!", "out[i] = f(a[i]);"),
    (
        "recursion",
        "float g(float x);\nfloat f(float x) { return g(x); } //!\n"
        "float g(float x) { return f(x); } //!",
        "out[i] = f(a[i]);",
    ),
    (
        "recursion",
        "struct S { float f(float x) { return f(x); } }; //!",
        "S s; out[i] = s.f(1.0f);",
    ),
    (
        "recursion",
        "template <typename T> T f(T x) { return x > 0 ? f(x - 1) : x; } //!",
        "out[i] = f(a[i]);",
    ),
    ("new", "", "thread float* p = new float; //!"),
    ("new", "", "thread float* p = 0; delete p; //!"),
    ("goto", "", "again: out[i] = 0;\ngoto again; //!"),
    ("virtual", "struct S { virtual float f() { return 1; } }; //!", "out[i] = 0;"),
    ("exceptions", "", "throw 1; //!"),
    ("exceptions", "", "try { //!\nout[i] = 0; } catch (...) {} //!"),
    ("storage", "", "thread_local float x = 0; //!"),
    ("static-local", "", "static int count = 0; //!"),
    ("static-local", "float f() { static float x; //!\nreturn x; }", "out[i] = f();"),
    ("function-pointer", "", "float (*f)(float) = 0; //!"),
    ("function-pointer", "float g(float x) { return x; }", "auto f = &g; //!\nout[i] = f(a[i]);"),
    ("program-scope", "float W = 1; //!", "out[i] = W;"),
    ("program-scope", "const float W = 1; //!", "out[i] = W;"),
    ("program-scope", "constexpr int N = 4; //!", "out[i] = N;"),
    ("program-scope", "static constexpr int N[2] = {1, 2}; //!", "out[i] = N[0];"),
    ("program-scope", "namespace n { const int N = 4; } //!", "out[i] = n::N;"),
    ("program-scope", "device float* p; //!", "out[i] = 0;"),
    ("program-scope", "constant int N; //!", "out[i] = N;"),
    ("program-scope", "constant int N [[function_constant(0)]]; //!", "out[i] = N;"),
    ("program-scope", "struct S { static const int N = 4; }; //!", "out[i] = S::N;"),
    ("standard-library", "", "out[i] = std::exp(a[i]); //!"),
    ("standard-library", "#include <cmath> //!", "out[i] = exp(a[i]);"),
    ("standard-library", "using namespace std; //!", "out[i] = 0;"),
    ("threadgroup-variable", "float f() { threadgroup float x[4]; return x[0]; } //!", ""),
    ("threadgroup-variable", "threadgroup float x[4]; //!", "out[i] = x[0];"),
    ("threadgroup-variable", "struct S { threadgroup float x[4]; }; //!", "out[i] = 0;"),
    ("threadgroup-initialiser", "", "threadgroup float x[2] = {0, 0}; //!"),
    ("threadgroup-initialiser", "", "threadgroup float x = 1.0f; //!"),
    ("address-space", "float f(float* p) { return *p; } //!", "out[i] = 0;"),
    ("address-space", "float f(thread float& x, float& y) { return x + y; } //!", "out[i] = 0;"),
    ("address-space", "struct S { float* p; }; //!", "out[i] = 0;"),
    ("address-space", "float* f(device float* p) { return p; } //!", "out[i] = 0;"),
    ("address-space", "", "const float* p = a; //!\nout[i] = p[i];"),
    ("address-space", "", "device float4* p = (device float4*)(float*)out; //!"),
    ("address-space", "", "threadgroup float x[4];\ndevice float* p = x; //!\np[0] = 1;"),
    ("address-space", "", "thread float* p = out; //!"),
    ("address-space", "", "constant float* p = a; //!"),
    ("address-space", "", "device float* p = (device float*)&i; //!"),
    ("address-space", "void f(threadgroup float* p) { p[0] = 1; }", "f(out); //!"),
    ("address-space", "void f(thread float& x) { x = 1; }", "f(out[i]); //!"),
    ("vector-conversion", "", "float4 v = half4(1.0h); //!"),
    ("vector-conversion", "", "int2 v = float2(1.0f); //!"),
    ("vector-conversion", "", "float4 v = float4(1) * half4(1); //!"),
    ("vector-conversion", "", "float3 v = float4(1); //!"),
    ("vector-conversion", "float4 f(float4 x) { return x; }", "half4 h = 0;\nf(h); //!"),
    ("metal-version", "", "auto f = [&](float x) { return x + a[i]; }; //!\nout[i] = f(1);"),
    ("metal-version", "", "atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst); //!"),
    ("metal-version", "#include <metal_tensor> //!", "out[i] = 0;"),
    ("metal-version", "#include <metal_logging> //!", "out[i] = 0;"),
    ("bfloat-conversion", "", "bfloat b = a[i]; //!"),
    ("bfloat-conversion", "void f(bfloat x) {}", "half h = 1.0h;\nf(h); //!"),
    (
        "bfloat-conversion",
        "template <typename T> T f(float x) { return x; } //!",
        "out[i] = f<float>(a[i]) + float(f<bfloat>(a[i]));",
    ),
    ("atomic-type", "", "device atomic<half>* p = (device atomic<half>*)out; //!"),
    ("shift", "", "uint x = i << 32; //!"),
    ("shift", "", "ulong x = ulong(i) >> 64; //!"),
    ("array-bounds", "", "float x[4] = {0};\nout[i] = x[4]; //!"),
    ("compile", "", "out[i] = undeclared; //!"),
    ("compile", "", "out[i] = max(a[i], 1); //!"),
    ("compile", "", "a[i] = 1; //!"),
    ("vector-constructor", "", "float4 v = float4(1, 2, 3); //!"),
    ("compile", "", "out[i] = a[i] //!\n"),
    ("uninitialized", "", "float x;\nout[i] = x; //!"),
]

GOOD = [
    ("", "out[i] = a[i];"),
    ("constant float W[2] = {1, 2};\nconstant constexpr int N = 2;", "out[i] = W[i % N];"),
    ("static constant constexpr const int N = 2;", "out[i] = N;"),
    ("constexpr constant float T[] = {0.5, 1};", "out[i] = T[i & 1];"),
    ("template <typename T, int N> struct S { T x[N]; static constexpr constant int n = N; };",
     "S<float, 3> s; s.x[0] = 1; out[i] = s.x[0] * S<float, 3>::n;"),
    ("template <int N> float f(float x) { if constexpr (N > 0) { return f<N - 1>(x) + 1; }\n"
     "return x; }", "out[i] = f<5>(a[i]);"),
    ("float f(float x) { return x; }\nfloat f(half x) { return f(float(x)); }",
     "out[i] = f(half(a[i]));"),
    ("", "threadgroup float x[64];\nthreadgroup float4 y[2][3], z;\nthreadgroup float* p = x;\n"
     "p[i] = a[i]; y[0][1] = 1; z = y[0][1];\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n"
     "out[i] = x[i];"),
    ("void f(threadgroup float* s, const device float* p, thread float& x) { x = s[0] + p[0]; }",
     "threadgroup float s[32]; float x = 0; s[i] = 0; f(s, a, x); out[i] = x;"),
    ("", "auto p = a + i;\nauto& r = out[i];\nr = *p;"),
    ("", "const device float4* p = (const device float4*)a;\n"
     "float4 v = p[0] * 2.0f + float4(a[0], a[1], a[2], a[3]);\nv.xy = v.zw;\nout[i] = v.x;"),
    ("", "half2 h = half2(1.0h, 2.0h); float2 f = float2(h); out[i] = f.x + float(h.y);"),
    ("enum Mode { quick, slow };\nenum class K : uint { a = 1, b };\nstruct P { int x; float y; };",
     "P p = {1, 2.0f}; K k = K::a; out[i] = p.y + uint(k) + quick;"),
    ("#define SQUARE(x) ((x) * (x))\n#define LOOP for (int j = 0; j < 4; ++j) {\n",
     "float s = 0;\nLOOP s += SQUARE(a[j]); }\nout[i] = s;"),
    ("// double, goto and std:: in a comment\n/* new virtual */", "out[i] = 0; // throw"),
    ("", "switch (i % 3) { case 0: out[i] = 1; break; default: out[i] = 2; }\n"
     "do { --i; } while (i > 4);"),
    ("", "float x[4] = {1, 2, 3, 4};\nint j[] = {0, 1};\n\nout[i] = x[j[1]] + x[j[i & 1]];"),
    ("namespace deep { namespace er { template <typename T> T two(T x) { return x * 2; } } }",
     "out[i] = deep::er::two(a[i]);"),
    ("struct Op { float operator()(float x, float y) { return x + y; }\n"
     "template <typename T> T apply(T x) const { return x; } };",
     "out[i] = Op()(a[i], 1.0f) + Op().apply(2.0f);"),
    ("", "out[i] = simd_sum(a[i]) + simd_shuffle_xor(a[i], 1) + metal::precise::exp(a[i]);\n"
     "out[i] = as_type<float>(as_type<uint>(out[i]) >> 1) + select(1.0f, 2.0f, i > 3);"),
    ("#include <metal_stdlib>\n#include <metal_simdgroup>\nusing namespace metal;",
     "out[i] = metal::max(a[i], 0.0f);"),
    ("typedef struct { float x; } Pair;\nunion U { float f; uint u; };",
     "Pair p; p.x = 1; U u; u.f = p.x; out[i] = u.f;"),
    ("template <typename T> void swap_(thread T& x, thread T& y) { T t = x; x = y; y = t; }",
     "float x = 1, y = 2; swap_(x, y); out[i] = x;"),
    ("", "bfloat b = bfloat(a[i]); out[i] = b; b = 1.0f; ulong x = ulong(i) << 40;"),
    ("inline void skip(const device float*& p, int n) { p += n; }",
     "auto p = a; skip(p, 2); out[i] = p[0];"),
    ("template <typename U> inline uint high(U x) { return (x & 0xff00000000) >> 32; }",
     "out[i] = high(ulong(i));"),
    ("inline float f(const thread float4& v) { return v.x; }", "out[i] = f(float4(1));"),
    ("thread float& pick(thread float* p, int j) { return p[j]; }",
     "float x[2]; pick(x, 0) = 1; out[i] = x[0];"),
    (
        "template <typename P> float first(P p) { return p[0]; }",
     "threadgroup float s[2]; s[0] = 1; out[i] = first(s) + first(a) + first(out);"),
]  # fmt: skip


NEWER = """#if __METAL_VERSION__ >= 320
atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst);
#else
out[i] = 0;
#endif
#if defined(SOMETHING)
out[i] = std::exp(1.0f);
#endif"""


def test_code_for_newer_versions_only_counts_for_them() -> None:
    lines = {d.line for d in check_tokens(KERNEL % NEWER, (3, 1))}
    assert lines == {13}  # std:: counts whatever SOMETHING is
    bare = NEWER.replace(">= 320", "< 320")
    assert {d.line for d in check_tokens(KERNEL % bare, (3, 1))} == {8, 13}
    assert {d.line for d in check_tokens(KERNEL % bare, (3, 2))} == {13}


def test_newer_versions_may_be_asked_for() -> None:
    text = KERNEL % "auto f = [&](float x) { return x; };\nout[i] = f(1);"
    assert [d.rule for d in check(text)] == ["metal-version"]
    assert check(text, msl=(3, 2)) == []
    with pytest.raises(ValueError, match="known are 3.1, 3.2, 4.0"):
        check(text, msl=(2, 4))


def text_of(before: str, body: str) -> str:
    return "\n".join(part for part in (before, KERNEL % body) if part)


def marked(text: str) -> set[int]:
    return {n for n, line in enumerate(text.split("\n"), 1) if line.rstrip().endswith("//!")}


@pytest.mark.parametrize(("rule", "before", "body"), BAD)
def test_bad_text(rule: str, before: str, body: str) -> None:
    text = text_of(before, body)
    found = {d.line for d in check(text) if d.rule == rule}
    assert found == marked(text), check(text)


@pytest.mark.parametrize(("before", "body"), GOOD)
def test_no_alarm(before: str, body: str) -> None:
    assert check(text_of(before, body)) == []
