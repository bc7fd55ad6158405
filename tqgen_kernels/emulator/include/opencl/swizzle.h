// Components of vectors that are classes here: packed ones, and those of bool.
#pragma once

namespace metal {
template <int N> struct bool_vec;
template <typename T, int N> struct __vector { typedef vec<T, N> type; };
template <int N> struct __vector<bool, N> { typedef bool_vec<N> type; };

// Components of an array in another order; written only if each is named once.
template <typename T, int N, int... I> struct __reordered {
  typedef typename __vector<T, (int)sizeof...(I)>::type plain;
  T __each[N];
  static constexpr bool __once() {
    const int place[] = {I...};
    for (int i = 0; i < (int)sizeof...(I); ++i)
      for (int j = 0; j < i; ++j)
        if (place[i] == place[j]) return false;
    return true;
  }
#define TQ_REORDER(AS, OP)                                                          \
  TQ_FN AS __reordered& operator OP(plain v) AS {                                   \
    static_assert(__once(), "a component is assigned twice");                       \
    const int place[] = {I...};                                                     \
    for (int i = 0; i < (int)sizeof...(I); ++i) __each[place[i]] OP v[i];           \
    return *this;                                                                   \
  }
#define TQ_REORDERS(AS)                                                             \
  TQ_REORDER(AS, =) TQ_REORDER(AS, +=) TQ_REORDER(AS, -=) TQ_REORDER(AS, *=) TQ_REORDER(AS, /=) \
  TQ_COPY(AS, __private) TQ_COPY(AS, __global) TQ_COPY(AS, __local) TQ_COPY(AS, __constant)
#define TQ_COPY(AS, FROM)                                                           \
  template <int = 0> TQ_FN AS __reordered& operator=(const FROM __reordered& other) AS { \
    return *this = (plain)other;                                                    \
  }
  TQ_REORDERS(__private) TQ_REORDERS(__global) TQ_REORDERS(__local)
#undef TQ_COPY
#undef TQ_REORDERS
#undef TQ_REORDER
#define TQ_READ(AS)                                                                 \
  TQ_FN operator plain() const AS { return {__each[I]...}; }                        \
  TQ_FN T operator[](int i) const AS {                                              \
    const int place[] = {I...};                                                     \
    return __each[place[i]];                                                        \
  }
  TQ_READ(__private) TQ_READ(__global) TQ_READ(__local) TQ_READ(__constant)
#undef TQ_READ
};
// Neighbours, which can also be written.
template <typename T, int N> struct __named;
template <typename T> struct __named<T, 2> {
  union { T __each[2]; struct { T x, y; }; };
};
template <typename T> struct __named<T, 3> {
  union { T __each[3]; struct { T x, y, z; }; };
};
template <typename T> struct __named<T, 4> {
  union { T __each[4]; struct { T x, y, z, w; }; };
};
template <typename T, int N> struct __neighbours : __named<T, N> {
  typedef typename __vector<T, N>::type plain;
#define TQ_VIEW(AS)                                                                 \
  TQ_FN T operator[](int i) const AS { return this->__each[i]; }                    \
  TQ_FN operator plain() const AS {                                             \
    plain v;                                                                  \
    for (int i = 0; i < N; ++i) v[i] = this->__each[i];                                 \
    return v;                                                                       \
  }
#define TQ_WRITE(AS, OP, EXPR)                                                      \
  TQ_FN AS __neighbours& operator OP(plain v) AS     {                              \
    for (int i = 0; i < N; ++i) this->__each[i] = (T)(EXPR);                              \
    return *this;                                                                   \
  }
#define TQ_WRITES(AS)                                                               \
  TQ_WRITE(AS, =, v[i]) TQ_WRITE(AS, +=, this->__each[i] + v[i]) TQ_WRITE(AS, -=, this->__each[i] - v[i]) \
  TQ_WRITE(AS, *=, this->__each[i] * v[i]) TQ_WRITE(AS, /=, this->__each[i] / v[i])
  TQ_VIEW(__private) TQ_VIEW(__global) TQ_VIEW(__local) TQ_VIEW(__constant)
  TQ_WRITES(__private) TQ_WRITES(__global) TQ_WRITES(__local)
#undef TQ_VIEW
#undef TQ_WRITE
#undef TQ_WRITES
};

#define TQ_S2(N, A, B, a, b) __reordered<T, N, A, B> a##b;
#define TQ_S3(N, A, B, C, a, b, c) __reordered<T, N, A, B, C> a##b##c;
#define TQ_S4(N, A, B, C, D, a, b, c, d) __reordered<T, N, A, B, C, D> a##b##c##d;
#define TQ_SWIZZLES_2(x, y)                                                         \
  TQ_S2(2, 0, 0, x, x) TQ_S2(2, 1, 0, y, x) TQ_S2(2, 1, 1, y, y)                    \
  __neighbours<T, 2> x##y;
#define TQ_SWIZZLES_3(x, y, z)                                                      \
  TQ_S2(3, 0, 0, x, x) TQ_S2(3, 0, 2, x, z) TQ_S2(3, 1, 0, y, x) TQ_S2(3, 1, 1, y, y) \
  TQ_S2(3, 2, 0, z, x) TQ_S2(3, 2, 1, z, y) TQ_S2(3, 2, 2, z, z)                    \
  TQ_S3(3, 0, 0, 0, x, x, x) TQ_S3(3, 1, 1, 1, y, y, y) TQ_S3(3, 2, 2, 2, z, z, z)  \
  TQ_S3(3, 2, 1, 0, z, y, x) TQ_S3(3, 0, 2, 1, x, z, y) TQ_S3(3, 1, 0, 2, y, x, z)  \
  TQ_S3(3, 1, 2, 0, y, z, x) TQ_S3(3, 2, 0, 1, z, x, y)                             \
  __neighbours<T, 2> x##y;                                                          \
  struct { T __before_##y##z[1]; __neighbours<T, 2> y##z; };                        \
  __neighbours<T, 3> x##y##z;
#define TQ_SWIZZLES_4(x, y, z, w)                                                   \
  TQ_S2(4, 0, 0, x, x) TQ_S2(4, 0, 2, x, z) TQ_S2(4, 0, 3, x, w) TQ_S2(4, 1, 0, y, x) \
  TQ_S2(4, 1, 1, y, y) TQ_S2(4, 1, 3, y, w) TQ_S2(4, 2, 0, z, x) TQ_S2(4, 2, 1, z, y) \
  TQ_S2(4, 2, 2, z, z) TQ_S2(4, 3, 0, w, x) TQ_S2(4, 3, 1, w, y) TQ_S2(4, 3, 2, w, z) \
  TQ_S2(4, 3, 3, w, w)                                                              \
  TQ_S3(4, 0, 0, 0, x, x, x) TQ_S3(4, 2, 1, 0, z, y, x) TQ_S3(4, 3, 2, 1, w, z, y)  \
  TQ_S3(4, 3, 3, 3, w, w, w)                                                        \
  TQ_S4(4, 3, 2, 1, 0, w, z, y, x) TQ_S4(4, 2, 1, 0, 3, z, y, x, w)                 \
  TQ_S4(4, 0, 0, 0, 0, x, x, x, x) TQ_S4(4, 3, 0, 1, 2, w, x, y, z)                 \
  TQ_S4(4, 1, 2, 3, 0, y, z, w, x)                                                  \
  __neighbours<T, 2> x##y;                                                          \
  struct { T __before_##y##z[1]; __neighbours<T, 2> y##z; };                        \
  struct { T __before_##z##w[2]; __neighbours<T, 2> z##w; };                        \
  __neighbours<T, 3> x##y##z;                                                       \
  struct { T __before_##y##z##w[1]; __neighbours<T, 3> y##z##w; };                  \
  __neighbours<T, 4> x##y##z##w;

template <typename T, int N> struct __packed_components;
template <typename T> struct __packed_components<T, 2> {
  union {
    struct { T x, y; };
    struct { T r, g; };
    T __each[2];
    TQ_SWIZZLES_2(x, y) TQ_SWIZZLES_2(r, g)
  };
  __packed_components() = default;
  constexpr __packed_components(T a, T b) : x(a), y(b) {}
  constexpr __packed_components(T a, T b) __constant : x(a), y(b) {}
};
template <typename T> struct __packed_components<T, 3> {
  union {
    struct { T x, y, z; };
    struct { T r, g, b; };
    T __each[3];
    TQ_SWIZZLES_3(x, y, z) TQ_SWIZZLES_3(r, g, b)
  };
  __packed_components() = default;
  constexpr __packed_components(T a, T b, T c) : x(a), y(b), z(c) {}
  constexpr __packed_components(T a, T b, T c) __constant : x(a), y(b), z(c) {}
};
template <typename T> struct __packed_components<T, 4> {
  union {
    struct { T x, y, z, w; };
    struct { T r, g, b, a; };
    T __each[4];
    TQ_SWIZZLES_4(x, y, z, w) TQ_SWIZZLES_4(r, g, b, a)
  };
  __packed_components() = default;
  constexpr __packed_components(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  constexpr __packed_components(T a, T b, T c, T d) __constant : x(a), y(b), z(c), w(d) {}
};
template <typename T, int N> struct __shape<__neighbours<T, N>> {
  typedef T element;
  enum { lanes = N };
};
template <typename T, int N, int... I> struct __shape<__reordered<T, N, I...>> {
  typedef T element;
  enum { lanes = sizeof...(I) };
};
}  // namespace metal
