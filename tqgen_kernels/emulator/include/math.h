// metal:: common, integer, relational and geometric functions, for scalars and vectors of 2 to 4.
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
TQ_FN float nextafter(float x, float y) {
  if (x != x || y != y) return x + y;
  if (x == y) return y;
  int b = __builtin_bit_cast(int, x);
  if (x == 0.0f) return __builtin_copysignf(0x1p-149f, y);
  return __builtin_bit_cast(float, (x < y) == (x > 0.0f) ? b + 1 : b - 1);
}
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
  X(atan2) X(pow) X(powr) X(fmod) X(fmin) X(fmax) X(fdim) X(divide) X(copysign) X(step)       \
  X(nextafter)
#define TQ_TERNARY(X) X(fma) X(fmin3) X(fmax3) X(fmedian3) X(mix) X(smoothstep)
#define TQ_DEFINE1(F) TQ_FLOATS(TQ_F1, F)
#define TQ_DEFINE2(F) TQ_FLOATS(TQ_F2, F)
#define TQ_DEFINE3(F) TQ_FLOATS(TQ_F3, F)
TQ_UNARY(TQ_DEFINE1)
TQ_BINARY(TQ_DEFINE2)
TQ_TERNARY(TQ_DEFINE3)
TQ_FN float2 mix(float2 x, float2 y, float a) { return x + (y - x) * a; }
TQ_FN float3 mix(float3 x, float3 y, float a) { return x + (y - x) * a; }
TQ_FN float4 mix(float4 x, float4 y, float a) { return x + (y - x) * a; }
TQ_FN half2 mix(half2 x, half2 y, half a) { return x + (y - x) * a; }
TQ_FN half4 mix(half4 x, half4 y, half a) { return x + (y - x) * a; }

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
  TQ_FN V max3(V x, V y, V z) { return max(max(x, y), z); }
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
TQ_VECTORS(TQ_ABS, char) TQ_VECTORS(TQ_ABS, short) TQ_VECTORS(TQ_ABS, int)
TQ_VECTORS(TQ_ABS, float) TQ_VECTORS(TQ_ABS, half)

// ---- integers ----------------------------------------------------------------------------------
#define TQ_INTS(M)                                                                            \
  M(char, uchar) M(uchar, uchar) M(short, ushort) M(ushort, ushort) M(int, uint) M(uint, uint) \
  M(long, ulong) M(ulong, ulong)
#define TQ_BITS(T, U)                                                                         \
  TQ_FN constexpr T popcount(T x) { return (T)__builtin_popcountl((ulong)(U)x); }            \
  TQ_FN constexpr T clz(T x) {                                                                \
    return x ? (T)(__builtin_clzl((ulong)(U)x) - (64 - 8 * (int)sizeof(T))) : (T)(8 * sizeof(T)); \
  }                                                                                           \
  TQ_FN constexpr T ctz(T x) {                                                                \
    return x ? (T)__builtin_ctzl((ulong)(U)x) : (T)(8 * sizeof(T));                          \
  }                                                                                           \
  TQ_FN constexpr T reverse_bits(T x) {                                                       \
    return (T)(U)(__builtin_bitreverse64((ulong)(U)x) >> (64 - 8 * (int)sizeof(T)));          \
  }                                                                                           \
  TQ_FN constexpr T rotate(T x, T n) {                                                        \
    int b = 8 * (int)sizeof(T), k = (int)((U)n % (uint)b);                                    \
    return k ? (T)((U)((U)x << k) | (U)((U)x >> (b - k))) : x;                                \
  }                                                                                           \
  TQ_FN constexpr T extract_bits(T x, uint offset, uint bits) {                               \
    int b = 8 * (int)sizeof(T);                                                               \
    return bits == 0 ? (T)0                                                                   \
                     : (T)((T)((U)x << (b - (int)(offset + bits))) >> (b - (int)bits));       \
  }                                                                                           \
  TQ_FN constexpr T insert_bits(T base, T x, uint offset, uint bits) {                        \
    U mask = (U)((bits >= 8 * sizeof(T) ? (U)~(U)0 : (U)(((U)1 << bits) - 1)) << offset);     \
    return (T)(((U)base & (U)~mask) | (((U)x << offset) & mask));                             \
  }                                                                                           \
  TQ_FN constexpr T addsat(T x, T y) {                                                        \
    T r = 0;                                                                                  \
    if (!__builtin_add_overflow(x, y, &r)) return r;                                          \
    return (T)-1 < (T)0 && x < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();       \
  }                                                                                           \
  TQ_FN constexpr T subsat(T x, T y) {                                                        \
    T r = 0;                                                                                  \
    if (!__builtin_sub_overflow(x, y, &r)) return r;                                          \
    return (T)-1 < (T)0 && y > 0 ? numeric_limits<T>::min() : (T)-1 < (T)0                    \
        ? numeric_limits<T>::max() : (T)0;                                                    \
  }                                                                                           \
  TQ_FN constexpr U absdiff(T x, T y) { return x > y ? (U)((U)x - (U)y) : (U)((U)y - (U)x); } \
  TQ_FN constexpr T hadd(T x, T y) { return (T)((x >> 1) + (y >> 1) + (x & y & 1)); }         \
  TQ_FN constexpr T rhadd(T x, T y) { return (T)((x >> 1) + (y >> 1) + ((x | y) & 1)); }
TQ_INTS(TQ_BITS)
TQ_FN int mulhi(int x, int y) { return (int)(((long)x * (long)y) >> 32); }
TQ_FN uint mulhi(uint x, uint y) { return (uint)(((ulong)x * (ulong)y) >> 32); }
TQ_FN short mulhi(short x, short y) { return (short)(((int)x * (int)y) >> 16); }
TQ_FN ushort mulhi(ushort x, ushort y) { return (ushort)(((uint)x * (uint)y) >> 16); }
TQ_FN int madhi(int x, int y, int z) { return mulhi(x, y) + z; }
TQ_FN uint madhi(uint x, uint y, uint z) { return mulhi(x, y) + z; }
TQ_FN int madsat(int x, int y, int z) {
  long r = (long)x * (long)y + (long)z;
  return r > 2147483647l ? 2147483647 : r < -2147483647l - 1 ? -2147483647 - 1 : (int)r;
}
TQ_FN uint madsat(uint x, uint y, uint z) {
  ulong r = (ulong)x * (ulong)y + (ulong)z;
  return r > 4294967295ul ? 4294967295u : (uint)r;
}
TQ_FN int mad24(int x, int y, int z) { return x * y + z; }
TQ_FN uint mad24(uint x, uint y, uint z) { return x * y + z; }
TQ_FN int mul24(int x, int y) { return x * y; }
TQ_FN uint mul24(uint x, uint y) { return x * y; }
#define TQ_BITSV(F, V, T) TQ_FN V F(V x) { TQ_EACH_LANE(V, T, F(x[i])) }
TQ_BITSV(popcount, uint2, uint) TQ_BITSV(popcount, uint3, uint) TQ_BITSV(popcount, uint4, uint)
TQ_BITSV(popcount, int2, int) TQ_BITSV(popcount, int4, int)

// ---- relational --------------------------------------------------------------------------------
#define TQ_CLASSIFY(F, EXPR)                                                                  \
  TQ_FN bool F(float x) { return EXPR; }                                                      \
  TQ_FN bool F(half h) { float x = (float)h; return EXPR; }                                   \
  TQ_FN bool F(bfloat h) { float x = (float)h; return EXPR; }                                 \
  TQ_FN bool2 F(float2 v) { return bool2{F(v.x), F(v.y)}; }                                 \
  TQ_FN bool3 F(float3 v) { return bool3{F(v.x), F(v.y), F(v.z)}; }                         \
  TQ_FN bool4 F(float4 v) { return bool4{F(v.x), F(v.y), F(v.z), F(v.w)}; }
TQ_CLASSIFY(isnan, x != x)
TQ_CLASSIFY(isinf, __builtin_fabsf(x) == __builtin_inff())
TQ_CLASSIFY(isfinite, __builtin_fabsf(x) < __builtin_inff())
TQ_CLASSIFY(isnormal, __builtin_fabsf(x) >= 0x1p-126f && __builtin_fabsf(x) < __builtin_inff())
TQ_CLASSIFY(signbit, __builtin_bit_cast(int, x) < 0)
TQ_FN bool isordered(float x, float y) { return x == x && y == y; }
TQ_FN bool isunordered(float x, float y) { return x != x || y != y; }
TQ_FN constexpr bool any(bool x) { return x; }
TQ_FN constexpr bool all(bool x) { return x; }
#define TQ_ANY(V)                                                                             \
  TQ_FN bool any(V v) { bool r = false; for (int i = 0; i < __shape<V>::lanes; ++i) r |= v[i] != 0; return r; } \
  TQ_FN bool all(V v) { bool r = true; for (int i = 0; i < __shape<V>::lanes; ++i) r &= v[i] != 0; return r; }
TQ_ANY(int2) TQ_ANY(int3) TQ_ANY(int4) TQ_ANY(short2) TQ_ANY(short3) TQ_ANY(short4)
TQ_ANY(char2) TQ_ANY(char3) TQ_ANY(char4) TQ_ANY(uint2) TQ_ANY(uint3) TQ_ANY(uint4)

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
using metal::ldexp; using metal::distance; using metal::isfinite; using metal::frexp; using metal::modf; }
namespace precise { TQ_UNARY(TQ_USING) TQ_BINARY(TQ_USING) TQ_TERNARY(TQ_USING)
using metal::abs; using metal::clamp; using metal::max; using metal::min; using metal::dot;
using metal::length; using metal::normalize; using metal::isnan; using metal::isinf; using metal::sincos;
using metal::ldexp; using metal::distance; using metal::isfinite; using metal::frexp; using metal::modf; }
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
#define M_PI_H ((half)3.14159265358979323846f)
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
