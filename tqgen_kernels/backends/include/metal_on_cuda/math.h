// The part of metal:: mathematics that kernels use, for scalars, halves and vectors.

namespace metal {

using ::abs;
using ::ceil;
using ::cos;
using ::exp;
using ::exp2;
using ::floor;
using ::fma;
using ::log;
using ::log2;
using ::max;
using ::min;
using ::pow;
using ::rint;
using ::round;
using ::rsqrt;
using ::sin;
using ::sqrt;
using ::tanh;
using ::trunc;

inline bool isfinite(float x) { return (as_type<uint>(x) & 0x7f800000u) != 0x7f800000u; }
inline bool isinf(float x) { return (as_type<uint>(x) & 0x7fffffffu) == 0x7f800000u; }
inline bool isnan(float x) { return (as_type<uint>(x) & 0x7fffffffu) > 0x7f800000u; }

// Halves: CUDA's functions have other names, and mixed operands would be ambiguous.
#define METAL_HALVES(TYPE)                                                           \
  inline TYPE abs(TYPE x) { return ::__habs(x); }                                    \
  inline TYPE max(TYPE a, TYPE b) { return ::__hmax(a, b); }                         \
  inline TYPE min(TYPE a, TYPE b) { return ::__hmin(a, b); }                         \
  inline TYPE fma(TYPE a, TYPE b, TYPE c) { return ::__hfma(a, b, c); }              \
  inline TYPE sqrt(TYPE x) { return TYPE(::sqrtf(float(x))); }                       \
  inline TYPE rsqrt(TYPE x) { return TYPE(::rsqrtf(float(x))); }                     \
  inline TYPE exp(TYPE x) { return TYPE(::expf(float(x))); }                         \
  inline TYPE exp2(TYPE x) { return TYPE(::exp2f(float(x))); }                       \
  inline float operator+(TYPE a, float b) { return float(a) + b; }                   \
  inline float operator+(float a, TYPE b) { return a + float(b); }                   \
  inline float operator-(TYPE a, float b) { return float(a) - b; }                   \
  inline float operator-(float a, TYPE b) { return a - float(b); }                   \
  inline float operator*(TYPE a, float b) { return float(a) * b; }                   \
  inline float operator*(float a, TYPE b) { return a * float(b); }                   \
  inline float operator/(TYPE a, float b) { return float(a) / b; }                   \
  inline float operator/(float a, TYPE b) { return a / float(b); }

METAL_HALVES(__half)
METAL_HALVES(__nv_bfloat16)
#undef METAL_HALVES

template <typename T>
inline T clamp(T x, given<T> low, given<T> high) {
  return min(max(x, T(low)), T(high));
}

template <typename T>
inline T select(T no, given<T> yes, bool condition) {
  return condition ? yes : no;
}

template <typename T, int N>
inline vec<T, N> select(vec<T, N> no, vec<T, N> yes, vec<bool, N> condition) {
  for (int i = 0; i < N; ++i) {
    no[i] = condition[i] ? yes[i] : no[i];
  }
  return no;
}

inline float sign(float x) { return float(x > 0.0f) - float(x < 0.0f); }
inline float saturate(float x) { return ::__saturatef(x); }
inline float fract(float x) { return x - ::floorf(x); }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }

inline uint popcount(uint x) { return ::__popc(x); }
inline uint clz(uint x) { return ::__clz(x); }
inline uint ctz(uint x) { return x ? ::__ffs(x) - 1 : 32; }
inline uint reverse_bits(uint x) { return ::__brev(x); }
inline uint mulhi(uint a, uint b) { return ::__umulhi(a, b); }

inline uint extract_bits(uint x, uint offset, uint bits) {
  uint out;
  asm("bfe.u32 %0, %1, %2, %3;" : "=r"(out) : "r"(x), "r"(offset), "r"(bits));
  return out;
}

inline uint insert_bits(uint base, uint insert, uint offset, uint bits) {
  uint out;
  asm("bfi.b32 %0, %1, %2, %3, %4;"
      : "=r"(out)
      : "r"(insert), "r"(base), "r"(offset), "r"(bits));
  return out;
}

// Each element by the scalar function.
#define METAL_EACH(FUNCTION)                          \
  template <typename T, int N>                        \
  inline vec<T, N> FUNCTION(vec<T, N> x) {            \
    for (int i = 0; i < N; ++i) {                     \
      x[i] = FUNCTION(x[i]);                          \
    }                                                 \
    return x;                                         \
  }
#define METAL_EACH_PAIR(FUNCTION)                     \
  template <typename T, int N>                        \
  inline vec<T, N> FUNCTION(vec<T, N> a, vec<T, N> b) { \
    for (int i = 0; i < N; ++i) {                     \
      a[i] = FUNCTION(a[i], b[i]);                    \
    }                                                 \
    return a;                                         \
  }

METAL_EACH(abs)
METAL_EACH(exp)
METAL_EACH(exp2)
METAL_EACH(floor)
METAL_EACH(log2)
METAL_EACH(rint)
METAL_EACH(rsqrt)
METAL_EACH(sqrt)
METAL_EACH_PAIR(max)
METAL_EACH_PAIR(min)
#undef METAL_EACH
#undef METAL_EACH_PAIR

template <typename T, int N>
inline vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
  for (int i = 0; i < N; ++i) {
    c[i] = fma(a[i], b[i], c[i]);
  }
  return c;
}

inline vec<__half, 2> fma(vec<__half, 2> a, vec<__half, 2> b, vec<__half, 2> c) {
  return as_type<vec<__half, 2>>(
      ::__hfma2(as_type<::__half2>(a), as_type<::__half2>(b), as_type<::__half2>(c)));
}

template <typename T, int N>
inline T dot(vec<T, N> a, vec<T, N> b) {
  T sum = a[0] * b[0];
  for (int i = 1; i < N; ++i) {
    sum = fma(a[i], b[i], sum);
  }
  return sum;
}

template <int N>
inline bool all(vec<bool, N> x) {
  bool out = true;
  for (int i = 0; i < N; ++i) {
    out = out && x[i];
  }
  return out;
}

template <int N>
inline bool any(vec<bool, N> x) {
  bool out = false;
  for (int i = 0; i < N; ++i) {
    out = out || x[i];
  }
  return out;
}

namespace precise {
using ::exp;
using ::exp2;
using ::log;
using ::log2;
using ::rsqrt;
using ::sqrt;
inline float divide(float a, float b) { return ::__fdiv_rn(a, b); }
}  // namespace precise

namespace fast {
inline float exp2(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
inline float exp(float x) { return ::__expf(x); }
inline float log2(float x) { return ::__log2f(x); }
inline float log(float x) { return ::__logf(x); }
inline float divide(float a, float b) { return ::__fdividef(a, b); }
inline float rsqrt(float x) {
  float out;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
inline float sqrt(float x) { return ::sqrtf(x); }
}  // namespace fast

}  // namespace metal
