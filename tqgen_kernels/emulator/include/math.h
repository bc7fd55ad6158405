// metal:: common, relational and geometric functions, for scalars and vectors of 2 to 4.
#pragma once

extern "C" {
#define TQ_LIBM1(NAME) float NAME##f(float);
#define TQ_LIBM2(NAME) float NAME##f(float, float);
TQ_LIBM1(sin) TQ_LIBM1(cos) TQ_LIBM1(tan) TQ_LIBM1(asin) TQ_LIBM1(acos) TQ_LIBM1(atan)
TQ_LIBM1(sinh) TQ_LIBM1(cosh) TQ_LIBM1(tanh) TQ_LIBM1(asinh) TQ_LIBM1(acosh) TQ_LIBM1(atanh)
TQ_LIBM1(exp) TQ_LIBM1(exp2) TQ_LIBM1(log) TQ_LIBM1(log2) TQ_LIBM1(log10)
TQ_LIBM2(atan2) TQ_LIBM2(pow) TQ_LIBM2(fmod)
}

namespace __tq {
// The float functions everything else is made of.
#define TQ_CALL1(NAME) TQ_FN float NAME(float x) { return ::NAME##f(x); }
TQ_CALL1(sin) TQ_CALL1(cos) TQ_CALL1(tan) TQ_CALL1(asin) TQ_CALL1(acos) TQ_CALL1(atan)
TQ_CALL1(sinh) TQ_CALL1(cosh) TQ_CALL1(tanh) TQ_CALL1(asinh) TQ_CALL1(acosh) TQ_CALL1(atanh)
TQ_CALL1(exp) TQ_CALL1(exp2) TQ_CALL1(log) TQ_CALL1(log2) TQ_CALL1(log10)
TQ_FN float exp10(float x) { return ::powf(10.0f, x); }
TQ_FN float sqrt(float x) { return __builtin_sqrtf(x); }
TQ_FN float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
TQ_FN float fabs(float x) { return __builtin_fabsf(x); }
TQ_FN float floor(float x) { return __builtin_floorf(x); }
TQ_FN float ceil(float x) { return __builtin_ceilf(x); }
TQ_FN float trunc(float x) { return __builtin_truncf(x); }
TQ_FN float rint(float x) { return __builtin_rintf(x); }
TQ_FN float round(float x) { return __builtin_roundf(x); }
TQ_FN float fract(float x) {
  float y = x - __builtin_floorf(x);
  return y < 0x1.fffffep-1f ? y : 0x1.fffffep-1f;
}
TQ_FN float sinpi(float x) { return ::sinf(3.14159265358979323846f * x); }
TQ_FN float cospi(float x) { return ::cosf(3.14159265358979323846f * x); }
TQ_FN float tanpi(float x) { return ::tanf(3.14159265358979323846f * x); }
TQ_FN float saturate(float x) { return !(x > 0.0f) ? 0.0f : x < 1.0f ? x : 1.0f; }
TQ_FN float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f; }
TQ_FN float atan2(float y, float x) { return ::atan2f(y, x); }
TQ_FN float pow(float x, float y) { return ::powf(x, y); }
TQ_FN float powr(float x, float y) { return ::powf(x, y); }
TQ_FN float fmod(float x, float y) { return ::fmodf(x, y); }
TQ_FN float fmin(float x, float y) { return __builtin_fminf(x, y); }
TQ_FN float fmax(float x, float y) { return __builtin_fmaxf(x, y); }
TQ_FN float fdim(float x, float y) { return x > y ? x - y : x <= y ? 0.0f : x + y; }
TQ_FN float divide(float x, float y) { return x / y; }
TQ_FN float copysign(float x, float y) { return __builtin_copysignf(x, y); }
TQ_FN float step(float edge, float x) { return x < edge ? 0.0f : 1.0f; }
TQ_FN float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
TQ_FN float fmin3(float x, float y, float z) { return fmin(fmin(x, y), z); }
TQ_FN float fmax3(float x, float y, float z) { return fmax(fmax(x, y), z); }
TQ_FN float fmedian3(float x, float y, float z) { return fmax(fmin(x, y), fmin(fmax(x, y), z)); }
TQ_FN float mix(float x, float y, float a) { return x + (y - x) * a; }
TQ_FN float smoothstep(float a, float b, float x) {
  float t = saturate((x - a) / (b - a));
  return t * t * (3.0f - 2.0f * t);
}
}  // namespace __tq

namespace metal {
// One overload a type, as in Metal, so that mixed arguments are as ambiguous here as there.
#define TQ_EACH_LANE(V, E, EXPR)                                   \
  V r;                                                             \
  _Pragma("unroll") for (int i = 0; i < __shape<V>::lanes; ++i) r[i] = (E)(EXPR); \
  return r;
#define TQ_F1(F, T)                                                                           \
  TQ_FN T F(T x) { return (T)__tq::F((float)x); }
#define TQ_F1V(F, T, N)                                                                       \
  TQ_FN T##N F(T##N x) { TQ_EACH_LANE(T##N, T, __tq::F((float)x[i])) }
#define TQ_F2(F, T)                                                                           \
  TQ_FN T F(T x, T y) { return (T)__tq::F((float)x, (float)y); }
#define TQ_F2V(F, T, N)                                                                       \
  TQ_FN T##N F(T##N x, T##N y) { TQ_EACH_LANE(T##N, T, __tq::F((float)x[i], (float)y[i])) }
#define TQ_F3(F, T)                                                                           \
  TQ_FN T F(T x, T y, T z) { return (T)__tq::F((float)x, (float)y, (float)z); }
#define TQ_F3V(F, T, N)                                                                       \
  TQ_FN T##N F(T##N x, T##N y, T##N z) {                                                      \
    TQ_EACH_LANE(T##N, T, __tq::F((float)x[i], (float)y[i], (float)z[i]))                     \
  }
#define TQ_FLOATS(M, F)                                                                       \
  M(F, float) M(F, half) M(F, bfloat)                                                         \
  M##V(F, float, 2) M##V(F, float, 3) M##V(F, float, 4)                                       \
  M##V(F, half, 2) M##V(F, half, 3) M##V(F, half, 4)

#define TQ_UNARY(X)                                                                           \
  X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) X(tanh) X(asinh) X(acosh)      \
  X(atanh) X(exp) X(exp2) X(exp10) X(log) X(log2) X(log10) X(sqrt) X(rsqrt) X(fabs) X(floor)  \
  X(ceil) X(trunc) X(rint) X(round) X(fract) X(sinpi) X(cospi) X(tanpi) X(saturate) X(sign)
#define TQ_BINARY(X)                                                                          \
  X(atan2) X(pow) X(powr) X(fmod) X(fmin) X(fmax) X(fdim) X(divide) X(copysign) X(step)
#define TQ_TERNARY(X) X(fma) X(fmin3) X(fmax3) X(fmedian3) X(mix) X(smoothstep)
#define TQ_DEFINE1(F) TQ_FLOATS(TQ_F1, F)
#define TQ_DEFINE2(F) TQ_FLOATS(TQ_F2, F)
#define TQ_DEFINE3(F) TQ_FLOATS(TQ_F3, F)
TQ_UNARY(TQ_DEFINE1)
TQ_BINARY(TQ_DEFINE2)
TQ_TERNARY(TQ_DEFINE3)
#define TQ_MIX(T, V) TQ_FN V mix(V x, V y, T a) { return x + (y - x) * a; }
TQ_MIX(float, float2) TQ_MIX(float, float3) TQ_MIX(float, float4)
TQ_MIX(half, half2) TQ_MIX(half, half3) TQ_MIX(half, half4)

#define TQ_NUMBERS(M)                                                                         \
  M(char) M(uchar) M(short) M(ushort) M(int) M(uint) M(long) M(ulong) M(half) M(float)
#define TQ_ALL_TYPES(M)                                                                       \
  TQ_NUMBERS(M) M(bfloat)                                                                     \
  TQ_VECTORS(M, char) TQ_VECTORS(M, uchar) TQ_VECTORS(M, short) TQ_VECTORS(M, ushort)         \
  TQ_VECTORS(M, int) TQ_VECTORS(M, uint) TQ_VECTORS(M, long) TQ_VECTORS(M, ulong)             \
  TQ_VECTORS(M, half) TQ_VECTORS(M, float)
#define TQ_VECTORS(M, T) M##V(T, T##2) M##V(T, T##3) M##V(T, T##4)

// min and max of floats ignore a NaN, as Metal's do.
#define TQ_LESS(T)                                                                            \
  TQ_FN constexpr T __min(T x, T y) { return y < x || x != x ? y : x; }                       \
  TQ_FN constexpr T __max(T x, T y) { return x < y || x != x ? y : x; }                       \
  TQ_FN constexpr T min(T x, T y) { return __min(x, y); }                                     \
  TQ_FN constexpr T max(T x, T y) { return __max(x, y); }                                     \
  TQ_FN constexpr T clamp(T x, T a, T b) { return __min(__max(x, a), b); }                    \
  TQ_FN constexpr T min3(T x, T y, T z) { return __min(__min(x, y), z); }                     \
  TQ_FN constexpr T max3(T x, T y, T z) { return __max(__max(x, y), z); }                     \
  TQ_FN constexpr T median3(T x, T y, T z) { return __max(__min(x, y), __min(__max(x, y), z)); }
#define TQ_LESSV(T, V)                                                                        \
  TQ_FN V min(V x, V y) { TQ_EACH_LANE(V, T, __min(x[i], y[i])) }                             \
  TQ_FN V max(V x, V y) { TQ_EACH_LANE(V, T, __max(x[i], y[i])) }                             \
  TQ_FN V clamp(V x, V a, V b) { TQ_EACH_LANE(V, T, __min(__max(x[i], a[i]), b[i])) }         \
  TQ_FN V clamp(V x, T a, T b) { TQ_EACH_LANE(V, T, __min(__max(x[i], a), b)) }               \
  TQ_FN V min3(V x, V y, V z) { return min(min(x, y), z); }                                   \
  TQ_FN V max3(V x, V y, V z) { return max(max(x, y), z); }                                   \
  TQ_FN V median3(V x, V y, V z) { return max(min(x, y), min(max(x, y), z)); }
TQ_ALL_TYPES(TQ_LESS)

#define TQ_SELECT(T) \
  TQ_FN constexpr T select(T a, T b, bool c) { return c ? b : a; }
#define TQ_SELECTV(T, V)                                                                      \
  template <typename C> TQ_FN V select(V a, V b, C c) { TQ_EACH_LANE(V, T, c[i] ? b[i] : a[i]) } \
  TQ_FN V select(V a, V b, bool c) { return c ? b : a; }
TQ_ALL_TYPES(TQ_SELECT)
TQ_SELECT(bool)

#define TQ_ABS(T) TQ_FN constexpr T abs(T x) { return x < 0 ? (T)-x : x; }
#define TQ_ABSV(T, V) TQ_FN V abs(V x) { TQ_EACH_LANE(V, T, abs(x[i])) }
TQ_ABS(char) TQ_ABS(short) TQ_ABS(int) TQ_ABS(long)
TQ_ABS(uchar) TQ_ABS(ushort) TQ_ABS(uint) TQ_ABS(ulong)
TQ_FN float abs(float x) { return __builtin_fabsf(x); }
TQ_FN half abs(half x) { return (half)__builtin_fabsf((float)x); }
TQ_FN bfloat abs(bfloat x) { return (bfloat)__builtin_fabsf((float)x); }
TQ_VECTORS(TQ_ABS, char) TQ_VECTORS(TQ_ABS, short) TQ_VECTORS(TQ_ABS, int) TQ_VECTORS(TQ_ABS, long)
TQ_VECTORS(TQ_ABS, uchar) TQ_VECTORS(TQ_ABS, ushort) TQ_VECTORS(TQ_ABS, uint)
TQ_VECTORS(TQ_ABS, ulong)
TQ_VECTORS(TQ_ABS, float) TQ_VECTORS(TQ_ABS, half)

}  // namespace metal
#include "integers.h"
namespace metal {
// ---- relational --------------------------------------------------------------------------------
#define TQ_CLASSIFY_LANES(F, T)                                                               \
  TQ_FN bool2 F(T##2 v) { return bool2(F(v.x), F(v.y)); }                                     \
  TQ_FN bool3 F(T##3 v) { return bool3(F(v.x), F(v.y), F(v.z)); }                             \
  TQ_FN bool4 F(T##4 v) { return bool4(F(v.x), F(v.y), F(v.z), F(v.w)); }
#define TQ_CLASSIFY(F, EXPR)                                                                  \
  TQ_FN bool F(float x) { return EXPR; }                                                      \
  TQ_FN bool F(half h) { float x = (float)h; return EXPR; }                                   \
  TQ_FN bool F(bfloat h) { float x = (float)h; return EXPR; }                                 \
  TQ_CLASSIFY_LANES(F, float) TQ_CLASSIFY_LANES(F, half)
TQ_CLASSIFY(isnan, x != x)
TQ_CLASSIFY(isinf, __builtin_fabsf(x) == __builtin_inff())
TQ_CLASSIFY(isfinite, __builtin_fabsf(x) < __builtin_inff())
TQ_CLASSIFY(isnormal, __builtin_fabsf(x) >= 0x1p-126f && __builtin_fabsf(x) < __builtin_inff())
TQ_CLASSIFY(signbit, __builtin_bit_cast(int, x) < 0)
#define TQ_ORDERED(T)                                                                         \
  TQ_FN bool isordered(T x, T y) { return x == x && y == y; }                                 \
  TQ_FN bool isunordered(T x, T y) { return x != x || y != y; }                               \
  TQ_FN bool2 isordered(T##2 x, T##2 y) { return !isnan(x) && !isnan(y); }                    \
  TQ_FN bool3 isordered(T##3 x, T##3 y) { return !isnan(x) && !isnan(y); }                    \
  TQ_FN bool4 isordered(T##4 x, T##4 y) { return !isnan(x) && !isnan(y); }                    \
  TQ_FN bool2 isunordered(T##2 x, T##2 y) { return isnan(x) || isnan(y); }                    \
  TQ_FN bool3 isunordered(T##3 x, T##3 y) { return isnan(x) || isnan(y); }                    \
  TQ_FN bool4 isunordered(T##4 x, T##4 y) { return isnan(x) || isnan(y); }
TQ_ORDERED(float) TQ_ORDERED(half)
TQ_FN constexpr bool any(bool x) { return x; }
TQ_FN constexpr bool all(bool x) { return x; }
#define TQ_ANY(V)                                                                             \
  TQ_FN bool any(V v) { bool r = false; for (int i = 0; i < __shape<V>::lanes; ++i) r |= v[i] != 0; return r; } \
  TQ_FN bool all(V v) { bool r = true; for (int i = 0; i < __shape<V>::lanes; ++i) r &= v[i] != 0; return r; }
TQ_ANY(int2) TQ_ANY(int3) TQ_ANY(int4) TQ_ANY(short2) TQ_ANY(short3) TQ_ANY(short4)
TQ_ANY(char2) TQ_ANY(char3) TQ_ANY(char4) TQ_ANY(uint2) TQ_ANY(uint3) TQ_ANY(uint4)
TQ_ANY(long2) TQ_ANY(long3) TQ_ANY(long4)

// ---- neighbours --------------------------------------------------------------------------------
#define TQ_NEXTAFTER(T, I)                                                                    \
  TQ_FN T nextafter(T x, T y) {                                                               \
    if (x != x || y != y) return x + y;                                                       \
    if (x == y) return y;                                                                     \
    I b = __builtin_bit_cast(I, x), one = 1;                                                  \
    if (x == (T)0.0f) return copysign(__builtin_bit_cast(T, one), y);                         \
    b = (I)((x < y) == (x > (T)0.0f) ? b + 1 : b - 1);                                        \
    return __builtin_bit_cast(T, b);                                                          \
  }
TQ_NEXTAFTER(float, int) TQ_NEXTAFTER(half, short) TQ_NEXTAFTER(bfloat, short)
#define TQ_NEXTAFTERV(T, V) \
  TQ_FN V nextafter(V x, V y) { TQ_EACH_LANE(V, T, nextafter(x[i], y[i])) }
TQ_VECTORS(TQ_NEXTAFTER, float) TQ_VECTORS(TQ_NEXTAFTER, half)

// ---- decomposition -----------------------------------------------------------------------------
#define TQ_DECOMPOSE(T)                                                                       \
  TQ_FN T ldexp(T x, int k) { return (T)__builtin_ldexpf((float)x, k); }                      \
  TQ_FN int ilogb(T x) { return __builtin_ilogbf((float)x); }                                 \
  TQ_FN T frexp(T x, TQ_THREAD int& e) { int k = 0; T r = (T)__builtin_frexpf((float)x, &k); e = k; return r; } \
  TQ_FN T modf(T x, TQ_THREAD T& whole) { whole = (T)__tq::trunc((float)x); return x - whole; } \
  TQ_FN T sincos(T x, TQ_THREAD T& c) { c = (T)__tq::cos((float)x); return (T)__tq::sin((float)x); }
TQ_DECOMPOSE(float)
TQ_DECOMPOSE(half)
TQ_DECOMPOSE(bfloat)
#define TQ_DECOMPOSE_LANES(V, I)                                                              \
  TQ_FN V ldexp(V x, I k) {                                                                   \
    for (int i = 0; i < __shape<V>::lanes; ++i) x[i] = ldexp(x[i], k[i]);                     \
    return x;                                                                                 \
  }                                                                                           \
  TQ_FN I ilogb(V x) {                                                                        \
    I r;                                                                                      \
    for (int i = 0; i < __shape<V>::lanes; ++i) r[i] = ilogb(x[i]);                           \
    return r;                                                                                 \
  }                                                                                           \
  TQ_FN V frexp(V x, TQ_THREAD I& e) {                                                        \
    I each;                                                                                   \
    for (int i = 0; i < __shape<V>::lanes; ++i) {                                             \
      int k;                                                                                  \
      x[i] = frexp(x[i], k);                                                                  \
      each[i] = k;                                                                            \
    }                                                                                         \
    e = each;                                                                                 \
    return x;                                                                                 \
  }                                                                                           \
  TQ_FN V modf(V x, TQ_THREAD V& whole) { whole = trunc(x); return x - whole; }               \
  TQ_FN V sincos(V x, TQ_THREAD V& c) { c = cos(x); return sin(x); }
TQ_DECOMPOSE_LANES(float2, int2) TQ_DECOMPOSE_LANES(float3, int3) TQ_DECOMPOSE_LANES(float4, int4)
TQ_DECOMPOSE_LANES(half2, int2) TQ_DECOMPOSE_LANES(half3, int3) TQ_DECOMPOSE_LANES(half4, int4)

// ---- geometry ----------------------------------------------------------------------------------
#define TQ_GEOMETRY(T, V)                                                                     \
  TQ_FN T dot(V x, V y) {                                                                     \
    T s = x[0] * y[0];                                                                        \
    _Pragma("unroll") for (int i = 1; i < __shape<V>::lanes; ++i) s += x[i] * y[i];           \
    return s;                                                                                 \
  }                                                                                           \
  TQ_FN T length_squared(V x) { return dot(x, x); }                                           \
  TQ_FN T length(V x) { return sqrt(dot(x, x)); }                                             \
  TQ_FN T distance(V x, V y) { return length(x - y); }                                        \
  TQ_FN T distance_squared(V x, V y) { return dot(x - y, x - y); }                            \
  TQ_FN V normalize(V x) { return x * rsqrt(dot(x, x)); }                                     \
  TQ_FN V faceforward(V n, V i, V reference) { return dot(reference, i) < (T)0.0f ? n : -n; } \
  TQ_FN V reflect(V i, V n) { return i - n * (T)((T)2.0f * dot(n, i)); }                      \
  TQ_FN V refract(V i, V n, T eta) {                                                          \
    T d = dot(n, i), k = (T)1.0f - eta * eta * ((T)1.0f - d * d);                             \
    return k < (T)0.0f ? (V)((T)0.0f) : i * eta - n * (T)(eta * d + sqrt(k));                 \
  }
TQ_GEOMETRY(float, float2) TQ_GEOMETRY(float, float3) TQ_GEOMETRY(float, float4)
TQ_GEOMETRY(half, half2) TQ_GEOMETRY(half, half3) TQ_GEOMETRY(half, half4)
#ifndef TQ_PLAIN
template <int N> TQ_FN bfloat dot(vec<bfloat, N> x, vec<bfloat, N> y) {
  bfloat s = x[0] * y[0];
  for (int i = 1; i < N; ++i) s += x[i] * y[i];
  return s;
}
#endif
#define TQ_CROSS(V)                                                                           \
  TQ_FN V cross(V a, V b) {                                                                   \
    return V{a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};            \
  }
TQ_CROSS(float3)
TQ_CROSS(half3)

// fast:: and precise:: are the same functions here.
#define TQ_USING(F) using metal::F;
namespace fast { TQ_UNARY(TQ_USING) TQ_BINARY(TQ_USING) TQ_TERNARY(TQ_USING)
using metal::abs; using metal::clamp; using metal::max; using metal::min; using metal::dot;
using metal::length; using metal::normalize; using metal::isnan; using metal::isinf; using metal::sincos;
using metal::ldexp; using metal::distance; using metal::isfinite; using metal::frexp; using metal::modf;
using metal::min3; using metal::max3; using metal::median3; using metal::ilogb; using metal::isnormal;
using metal::signbit; using metal::length_squared; using metal::distance_squared; using metal::cross;
using metal::reflect; using metal::refract; using metal::faceforward; }
namespace precise { TQ_UNARY(TQ_USING) TQ_BINARY(TQ_USING) TQ_TERNARY(TQ_USING)
using metal::abs; using metal::clamp; using metal::max; using metal::min; using metal::dot;
using metal::length; using metal::normalize; using metal::isnan; using metal::isinf; using metal::sincos;
using metal::ldexp; using metal::distance; using metal::isfinite; using metal::frexp; using metal::modf;
using metal::min3; using metal::max3; using metal::median3; using metal::ilogb; using metal::isnormal;
using metal::signbit; using metal::length_squared; using metal::distance_squared; using metal::cross;
using metal::reflect; using metal::refract; using metal::faceforward; }
}  // namespace metal

#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.78539816339744830962f
#define M_1_PI_F 0.31830988618379067154f
#define M_2_PI_F 0.63661977236758134308f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.43429448190325182765f
#define M_LN2_F 0.69314718055994530942f
#define M_LN10_F 2.30258509299404568402f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.70710678118654752440f
#define M_E_H ((half)M_E_F)
#define M_E_BF ((bfloat)M_E_F)
#define M_LOG2E_H ((half)M_LOG2E_F)
#define M_LOG2E_BF ((bfloat)M_LOG2E_F)
#define M_LOG10E_H ((half)M_LOG10E_F)
#define M_LOG10E_BF ((bfloat)M_LOG10E_F)
#define M_LN2_H ((half)M_LN2_F)
#define M_LN2_BF ((bfloat)M_LN2_F)
#define M_LN10_H ((half)M_LN10_F)
#define M_LN10_BF ((bfloat)M_LN10_F)
#define M_PI_H ((half)M_PI_F)
#define M_PI_BF ((bfloat)M_PI_F)
#define M_PI_2_H ((half)M_PI_2_F)
#define M_PI_2_BF ((bfloat)M_PI_2_F)
#define M_PI_4_H ((half)M_PI_4_F)
#define M_PI_4_BF ((bfloat)M_PI_4_F)
#define M_1_PI_H ((half)M_1_PI_F)
#define M_1_PI_BF ((bfloat)M_1_PI_F)
#define M_2_PI_H ((half)M_2_PI_F)
#define M_2_PI_BF ((bfloat)M_2_PI_F)
#define M_2_SQRTPI_H ((half)M_2_SQRTPI_F)
#define M_2_SQRTPI_BF ((bfloat)M_2_SQRTPI_F)
#define M_SQRT2_H ((half)M_SQRT2_F)
#define M_SQRT2_BF ((bfloat)M_SQRT2_F)
#define M_SQRT1_2_H ((half)M_SQRT1_2_F)
#define M_SQRT1_2_BF ((bfloat)M_SQRT1_2_F)
#define MAXFLOAT 0x1.fffffep127f
#define FLT_MAX 0x1.fffffep127f
#define FLT_MIN 0x1p-126f
#define FLT_EPSILON 0x1p-23f
#define HALF_MAX ((half)65504.0f)
#define HALF_MIN ((half)0x1p-14f)
#define INFINITY __builtin_inff()
#define HUGE_VALF __builtin_inff()
#define NAN __builtin_nanf("")
#define INT_MAX 2147483647
#define INT_MIN (-2147483647 - 1)
#define UINT_MAX 4294967295u
#define SHRT_MAX 32767
#define UCHAR_MAX 255
#define USHRT_MAX 65535
#define CHAR_MAX 127
#define LONG_MAX 9223372036854775807l
#define ULONG_MAX 18446744073709551615ul
#define CHAR_BIT 8
#define FLT_DIG 6
#define FLT_MANT_DIG 24
#define FLT_RADIX 2
#define FLT_MAX_10_EXP 38
#define FLT_MAX_EXP 128
#define FLT_MIN_10_EXP (-37)
#define FLT_MIN_EXP (-125)
#define HALF_DIG 2
#define HALF_MANT_DIG 11
#define HALF_RADIX 2
#define HALF_MAX_10_EXP 4
#define HALF_MAX_EXP 16
#define HALF_MIN_10_EXP (-4)
#define HALF_MIN_EXP (-13)
#define HALF_EPSILON ((half)0x1p-10f)
#define MAXHALF HALF_MAX
#define HUGE_VALH ((half)__builtin_inff())
#define BFLT_MAX ((bfloat)0x1.fep127f)
#define BFLT_MIN ((bfloat)0x1p-126f)
#define BFLT_EPSILON ((bfloat)0x1p-7f)
#define MAXBFLOAT BFLT_MAX
#define CHAR_MIN (-128)
#define SCHAR_MAX 127
#define SCHAR_MIN (-128)
#define SHRT_MIN (-32768)
#define LONG_MIN (-9223372036854775807l - 1)
#define FP_ILOGB0 (-2147483647 - 1)
#define FP_ILOGBNAN 2147483647
