// Vectors of bool. A comparison of vectors yields lanes of 0 and -1 here, which become these.
#pragma once

namespace metal {
template <int N> struct alignas(N == 3 ? 4 : N) bool_vec : __packed_components<bool, N> {
  bool_vec() = default;
  TQ_FN bool_vec(bool x) {
    for (int i = 0; i < N; ++i) this->__each[i] = x;
  }
  template <typename U, typename = enable_if_t<(int)__shape<U>::lanes == N && (N > 1)>>
  TQ_FN bool_vec(U v) {
    for (int i = 0; i < N; ++i) this->__each[i] = v[i] != (typename __shape<U>::element)0;
  }
  template <typename U, typename V, typename... R> TQ_FN bool_vec(U x, V y, R... rest) {
    static_assert((int)__lanes<U, V, R...>::value == N,
                  "the arguments of a vector constructor have too few or too many components");
    int at = 0;
    __put(at, x);
    __put(at, y);
    (__put(at, rest), ...);
  }
  // Conditions and arithmetic of clang's own vectors take lanes of 0 and -1.
#define TQ_BOOL_VEC(AS)                                                          \
  TQ_FN explicit operator vec<int, N>() const AS {                               \
    vec<int, N> v;                                                               \
    for (int i = 0; i < N; ++i) v[i] = this->__each[i] ? 1 : 0;                  \
    return v;                                                                    \
  }                                                                              \
  TQ_FN bool operator[](int i) const AS & { return this->__each[i]; }
  TQ_BOOL_VEC(__private) TQ_BOOL_VEC(__global) TQ_BOOL_VEC(__local) TQ_BOOL_VEC(__constant)
#undef TQ_BOOL_VEC
  TQ_FN bool operator[](int i) && { return this->__each[i]; }
  TQ_FN __private bool& operator[](int i) __private & { return this->__each[i]; }
  TQ_FN __global bool& operator[](int i) __global & { return this->__each[i]; }
  TQ_FN __local bool& operator[](int i) __local & { return this->__each[i]; }

#define TQ_BOOL_OPERATOR(OP, EXPR)                                               \
  TQ_FN friend bool_vec operator OP(bool_vec a, bool_vec b) {                    \
    bool_vec r;                                                                  \
    for (int i = 0; i < N; ++i) r.__each[i] = EXPR;                              \
    return r;                                                                    \
  }
  TQ_BOOL_OPERATOR(&&, a.__each[i] && b.__each[i])
  TQ_BOOL_OPERATOR(||, a.__each[i] || b.__each[i])
  TQ_BOOL_OPERATOR(&, a.__each[i] && b.__each[i])
  TQ_BOOL_OPERATOR(|, a.__each[i] || b.__each[i])
  TQ_BOOL_OPERATOR(^, a.__each[i] != b.__each[i])
  TQ_BOOL_OPERATOR(==, a.__each[i] == b.__each[i])
  TQ_BOOL_OPERATOR(!=, a.__each[i] != b.__each[i])
#undef TQ_BOOL_OPERATOR
  TQ_FN friend bool_vec operator!(bool_vec a) { return a == bool_vec(false); }
  TQ_FN friend bool_vec operator~(bool_vec a) { return a == bool_vec(false); }
#define TQ_BOOL_COMPOUND(AS, OP) \
  TQ_FN AS bool_vec& operator OP##=(bool_vec b) AS { return *this = *this OP b; }
  TQ_BOOL_COMPOUND(__private, &) TQ_BOOL_COMPOUND(__private, |) TQ_BOOL_COMPOUND(__private, ^)

 private:
  template <typename U> TQ_FN void __put(__private int& at, U x) {
    if constexpr ((int)__shape<U>::lanes == 1)
      this->__each[at++] = (bool)x;
    else
      for (int i = 0; i < (int)__shape<U>::lanes; ++i)
        this->__each[at++] = x[i] != (typename __shape<U>::element)0;
  }
};
template <int N> struct __shape<bool_vec<N>> {
  typedef bool element;
  enum { lanes = N };
};
template <int N> TQ_FN bool any(bool_vec<N> v) {
  for (int i = 0; i < N; ++i)
    if (v.__each[i]) return true;
  return false;
}
template <int N> TQ_FN bool all(bool_vec<N> v) {
  for (int i = 0; i < N; ++i)
    if (!v.__each[i]) return false;
  return true;
}
}  // namespace metal
typedef metal::bool_vec<2> bool2;
typedef metal::bool_vec<3> bool3;
typedef metal::bool_vec<4> bool4;
namespace metal {
using ::bool2; using ::bool3; using ::bool4;
}
