// Metal's scalar types in plain C++, for g++: address spaces are erased.
#pragma once

#define TQ_PLAIN 1
#define __METAL__ 1
#define __METAL_VERSION__ 310

#define __global
#define __local
#define __constant
#define __private
#define __generic
#define TQ_THREAD
#define device
#define threadgroup
#define constant
#define thread
#define kernel
#define METAL_FUNC inline __attribute__((always_inline))
#define MLX_MTL_PRAGMA_UNROLL

#define TQ_FN inline __attribute__((always_inline, artificial))
#define TQ_COLD __attribute__((noinline, no_sanitize("thread")))
#define TQ_EACH_SPACE(M) M()
#define TQ_EACH_WRITABLE_SPACE(M) M()

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
#if defined(TQ_CLASS_HALF) || __GNUC__ < 12
#include "half.h"
#else
typedef _Float16 half;
#endif

// A float of 16 bits with the exponent of 32; as in Metal, float and half become one only by a cast.
struct bfloat {
  unsigned short bits;
  bfloat() = default;
  explicit constexpr bfloat(float x) : bits(rounded(__builtin_bit_cast(unsigned, x))) {}
  explicit constexpr bfloat(half x) : bfloat((float)x) {}
  explicit constexpr bfloat(double x) : bfloat((float)x) {}
#define TQ_FROM_INT(T) constexpr bfloat(T x) : bfloat((float)x) {}
  TQ_FROM_INT(bool) TQ_FROM_INT(char) TQ_FROM_INT(int8_t) TQ_FROM_INT(uchar) TQ_FROM_INT(short)
  TQ_FROM_INT(ushort) TQ_FROM_INT(int) TQ_FROM_INT(uint) TQ_FROM_INT(long) TQ_FROM_INT(ulong)
  constexpr operator float() const { return __builtin_bit_cast(float, (unsigned)bits << 16); }

 private:
  static constexpr unsigned short rounded(unsigned u) {
    if ((u & 0x7fffffff) > 0x7f800000) return (unsigned short)(u >> 16 | 0x40);
    return (unsigned short)((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
};
#define TQ_BFLOAT_OPERATOR(OP)                                                                \
  constexpr bfloat operator OP(bfloat a, bfloat b) { return bfloat((float)a OP(float) b); }   \
  inline bfloat& operator OP##=(bfloat& a, bfloat b) { return a = a OP b; }                   \
  inline bfloat& operator OP##=(bfloat& a, float b) { return a = bfloat((float)a OP b); }
TQ_BFLOAT_OPERATOR(+) TQ_BFLOAT_OPERATOR(-) TQ_BFLOAT_OPERATOR(*) TQ_BFLOAT_OPERATOR(/)
constexpr bfloat operator-(bfloat a) { return bfloat(-(float)a); }
typedef half float16_t;
typedef bfloat bfloat16_t;

constexpr ulong __builtin_bitreverse64(ulong x) {
  ulong r = 0;
  for (int i = 0; i < 64; ++i) r = r << 1 | (x >> i & 1);
  return r;
}

namespace metal {
template <typename T, T V> struct integral_constant {
  static constexpr T value = V;
  typedef T value_type;
  constexpr operator T() const { return V; }
};
template <bool B> using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <bool B, typename T = void> struct enable_if {};
template <typename T> struct enable_if<true, T> { typedef T type; };
template <bool B, typename T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool B, typename T, typename U> struct conditional { typedef T type; };
template <typename T, typename U> struct conditional<false, T, U> { typedef U type; };
template <bool B, typename T, typename U> using conditional_t = typename conditional<B, T, U>::type;
template <typename T> struct __bare { typedef T type; };
template <typename T> struct __bare<const T> { typedef T type; };
template <typename T> struct __bare<T&> { typedef T type; };
template <typename T> struct __bare<const T&> { typedef T type; };
template <typename T> using remove_cv_t = typename __bare<T>::type;
template <typename T> using remove_reference_t = typename __bare<T>::type;
template <typename T> using decay_t = typename __bare<T>::type;
template <typename T, typename U> struct is_same : false_type {};
template <typename T> struct is_same<T, T> : true_type {};
template <typename T, typename U> static constexpr bool is_same_v = is_same<T, U>::value;
template <typename T> struct __is_float : false_type {};
template <> struct __is_float<float> : true_type {};
template <> struct __is_float<double> : true_type {};  // what a literal is before it is converted
template <> struct __is_float<half> : true_type {};
template <> struct __is_float<bfloat> : true_type {};
template <typename T> struct is_floating_point : __is_float<typename __bare<T>::type> {};
template <typename T> struct __is_int : false_type {};
#define TQ_IS_INT(T) template <> struct __is_int<T> : true_type {};
TQ_IS_INT(bool) TQ_IS_INT(char) TQ_IS_INT(signed char) TQ_IS_INT(uchar) TQ_IS_INT(short)
TQ_IS_INT(ushort) TQ_IS_INT(int) TQ_IS_INT(uint) TQ_IS_INT(long) TQ_IS_INT(ulong)
template <typename T> struct is_integral : __is_int<typename __bare<T>::type> {};
template <typename T> struct is_arithmetic
    : bool_constant<is_floating_point<T>::value || is_integral<T>::value> {};
template <typename T> struct is_unsigned : bool_constant<is_integral<T>::value && ((T)-1 > (T)0)> {};
template <typename T> struct is_signed
    : bool_constant<is_arithmetic<T>::value && !is_unsigned<T>::value> {};
template <typename T> static constexpr bool is_floating_point_v = is_floating_point<T>::value;
template <typename T> static constexpr bool is_integral_v = is_integral<T>::value;
template <typename T> static constexpr bool is_arithmetic_v = is_arithmetic<T>::value;
template <typename T> static constexpr bool is_unsigned_v = is_unsigned<T>::value;
template <typename T> static constexpr bool is_signed_v = is_signed<T>::value;

template <typename T, typename U> struct __convert {
  TQ_FN static constexpr T from(U x) { return (T)x; }
};

template <typename T, int N> struct vec;
template <typename T, int M> struct __swizzled;
template <typename T> struct __shape { typedef T element; enum { lanes = 1 }; };
template <typename T, int N> struct __shape<vec<T, N>> { typedef T element; enum { lanes = N }; };
template <typename T, int N> struct __shape<__swizzled<T, N>> {
  typedef T element;
  enum { lanes = N };
};
template <typename... A> struct __lanes { enum { value = 0 }; };
template <typename U, typename... R> struct __lanes<U, R...> {
  enum { value = (int)__shape<U>::lanes + (int)__lanes<R...>::value };
};
template <typename T> using uniform = T;
template <typename T, size_t N> struct array {
  T __elems[N];
  constexpr T& operator[](size_t i) { return __elems[i]; }
  constexpr const T& operator[](size_t i) const { return __elems[i]; }
  constexpr size_t size() const { return N; }
};
}  // namespace metal
#include "../limits.h"
#include "vector.h"

#define TQ_VECTOR_TYPES(T) \
  typedef metal::vec<T, 2> T##2; typedef metal::vec<T, 3> T##3; typedef metal::vec<T, 4> T##4; \
  namespace metal { using ::T##2; using ::T##3; using ::T##4; }
TQ_VECTOR_TYPES(bool) TQ_VECTOR_TYPES(char) TQ_VECTOR_TYPES(uchar) TQ_VECTOR_TYPES(short)
TQ_VECTOR_TYPES(ushort) TQ_VECTOR_TYPES(int) TQ_VECTOR_TYPES(uint) TQ_VECTOR_TYPES(long)
TQ_VECTOR_TYPES(ulong) TQ_VECTOR_TYPES(half) TQ_VECTOR_TYPES(float) TQ_VECTOR_TYPES(bfloat)

template <typename T, typename A> TQ_FN constexpr T __tq_make(const A& a) {
  return static_cast<T>(a);
}
template <typename T, typename A, typename B, typename... R>
TQ_FN constexpr T __tq_make(const A& a, const B& b, const R&... rest) {
  return T(a, b, rest...);
}
template <typename T, typename U> TQ_FN constexpr T as_type(const U& x) {
  return __builtin_bit_cast(T, static_cast<const typename metal::__bare<U>::type&>(x));
}
template <typename T, typename U> TQ_FN T& __tq_reinterpret(U& x) {
  return *(T*)&x;
}
