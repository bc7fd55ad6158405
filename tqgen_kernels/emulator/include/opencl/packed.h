// Vectors without padding or alignment of their own.
#pragma once

#include "swizzle.h"

namespace metal {
template <typename T> struct __make_vector;

template <typename T, int N> struct packed_vec : __packed_components<T, N> {
  typedef vec<T, N> plain;
  packed_vec() = default;
  // One argument a component may be a constant; other ways to make a vector may not.
  typedef __packed_components<T, N> __components;
#define TQ_FROM_COMPONENTS(AS)                                                           \
  template <typename U, typename V, typename = enable_if_t<N == 2 && __lanes<U, V>::value == 2>> \
  TQ_FN constexpr packed_vec(U x, V y) AS : __components((T)x, (T)y) {}                  \
  template <typename U, typename V, typename W,                                          \
            typename = enable_if_t<N == 3 && __lanes<U, V, W>::value == 3>>              \
  TQ_FN constexpr packed_vec(U x, V y, W z) AS : __components((T)x, (T)y, (T)z) {}       \
  template <typename U, typename V, typename W, typename X>                              \
  TQ_FN constexpr packed_vec(U x, V y, W z, X w) AS                                      \
      : __components((T)x, (T)y, (T)z, (T)w) {}
  TQ_FROM_COMPONENTS() TQ_FROM_COMPONENTS(__constant)
#undef TQ_FROM_COMPONENTS
  TQ_FN packed_vec(plain v) {
    for (int i = 0; i < N; ++i) this->__each[i] = v[i];
  }
  template <typename U, typename V, typename... R,
            enable_if_t<((int)__lanes<U, V, R...>::value > 2 + (int)sizeof...(R)), int> = 0>
  TQ_FN packed_vec(U x, V y, R... rest)
      : packed_vec(__make_vector<plain>::make(x, y, rest...)) {}
#define TQ_PACKED_COMPOUND(AS, OP) \
  TQ_FN AS packed_vec& operator OP##=(plain v) AS { return *this = (plain)*this OP v; }
// Templates, so that copies within an address space stay trivial.
#define TQ_PACKED_COPY(AS, FROM)                                                 \
  template <int = 0> TQ_FN AS packed_vec& operator=(const FROM packed_vec& v) AS { \
    return *this = (plain)v;                                                     \
  }
#define TQ_PACKED(AS)                                                            \
  TQ_FN operator plain() const AS {                                              \
    plain v;                                                                     \
    for (int i = 0; i < N; ++i) v[i] = this->__each[i];                          \
    return v;                                                                    \
  }                                                                              \
  TQ_FN AS T& operator[](int i) AS & { return this->__each[i]; }                 \
  TQ_FN T operator[](int i) const AS & { return this->__each[i]; }               \
  TQ_FN AS packed_vec& operator=(plain v) AS {                                   \
    for (int i = 0; i < N; ++i) this->__each[i] = v[i];                          \
    return *this;                                                                \
  }                                                                              \
  TQ_PACKED_COPY(AS, __private) TQ_PACKED_COPY(AS, __global)                     \
  TQ_PACKED_COPY(AS, __local) TQ_PACKED_COPY(AS, __constant)                     \
  TQ_PACKED_COMPOUND(AS, +) TQ_PACKED_COMPOUND(AS, -)                            \
  TQ_PACKED_COMPOUND(AS, *) TQ_PACKED_COMPOUND(AS, /)
  TQ_PACKED(__private) TQ_PACKED(__global) TQ_PACKED(__local)
  TQ_FN operator plain() const __constant {
    plain v;
    for (int i = 0; i < N; ++i) v[i] = this->__each[i];
    return v;
  }
  TQ_FN T operator[](int i) const __constant & { return this->__each[i]; }
  TQ_FN T operator[](int i) && { return this->__each[i]; }
};
template <typename T, int N> struct __shape<packed_vec<T, N>> {
  typedef T element;
  enum { lanes = N };
};

// The result of arithmetic is a plain vector.
#define TQ_PACKED_OPERATOR(OP)                                                           \
  template <typename T, int N>                                                           \
  TQ_FN vec<T, N> operator OP(packed_vec<T, N> a, packed_vec<T, N> b) {                  \
    return (vec<T, N>)a OP (vec<T, N>)b;                                                 \
  }                                                                                      \
  template <typename T, int N>                                                           \
  TQ_FN vec<T, N> operator OP(packed_vec<T, N> a, typename packed_vec<T, N>::plain b) {  \
    return (vec<T, N>)a OP b;                                                            \
  }                                                                                      \
  template <typename T, int N>                                                           \
  TQ_FN vec<T, N> operator OP(typename packed_vec<T, N>::plain a, packed_vec<T, N> b) {  \
    return a OP (vec<T, N>)b;                                                            \
  }                                                                                      \
  template <typename T, int N, typename S, typename = enable_if_t<is_arithmetic<S>::value>> \
  TQ_FN vec<T, N> operator OP(packed_vec<T, N> a, S b) {                                 \
    return (vec<T, N>)a OP (T)b;                                                         \
  }                                                                                      \
  template <typename T, int N, typename S, typename = enable_if_t<is_arithmetic<S>::value>> \
  TQ_FN vec<T, N> operator OP(S a, packed_vec<T, N> b) {                                 \
    return (T)a OP (vec<T, N>)b;                                                         \
  }
TQ_PACKED_OPERATOR(+) TQ_PACKED_OPERATOR(-) TQ_PACKED_OPERATOR(*) TQ_PACKED_OPERATOR(/)
TQ_PACKED_OPERATOR(%) TQ_PACKED_OPERATOR(&) TQ_PACKED_OPERATOR(|) TQ_PACKED_OPERATOR(^)
TQ_PACKED_OPERATOR(<<) TQ_PACKED_OPERATOR(>>)
template <typename T, int N> TQ_FN vec<T, N> operator-(packed_vec<T, N> a) { return -(vec<T, N>)a; }

#define TQ_PACKED_TYPES(T)                \
  typedef packed_vec<T, 2> packed_##T##2; \
  typedef packed_vec<T, 3> packed_##T##3; \
  typedef packed_vec<T, 4> packed_##T##4;
TQ_PACKED_TYPES(char) TQ_PACKED_TYPES(uchar) TQ_PACKED_TYPES(short) TQ_PACKED_TYPES(ushort)
TQ_PACKED_TYPES(int) TQ_PACKED_TYPES(uint) TQ_PACKED_TYPES(half) TQ_PACKED_TYPES(float)
TQ_PACKED_TYPES(bfloat) TQ_PACKED_TYPES(long) TQ_PACKED_TYPES(ulong)
}  // namespace metal
