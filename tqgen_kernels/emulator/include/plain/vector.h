// Metal's vectors as C++ classes. The rewriter turns a swizzle `v.zyx` into v.__swizzle<2, 1, 0>().
#pragma once

namespace metal {
template <typename T, int N> struct vec;

// Components of a vector in another order: a value, and a place to write to.
template <typename T, int M> struct __swizzled : vec<T, M> {
  T* __place[M];
  __swizzled& operator=(const vec<T, M>& v) {
    T copy[M];
    for (int i = 0; i < M; ++i) copy[i] = v[i];
    for (int i = 0; i < M; ++i) *__place[i] = copy[i];
    return *this;
  }
  __swizzled& operator=(const __swizzled& v) {
    return *this = static_cast<const vec<T, M>&>(v);
  }
#define TQ_COMPOUND(OP) \
  __swizzled& operator OP##=(const vec<T, M>& v) { return *this = (vec<T, M>)(*this OP v); }
  TQ_COMPOUND(+) TQ_COMPOUND(-) TQ_COMPOUND(*) TQ_COMPOUND(/)
#undef TQ_COMPOUND
};

template <typename T, int N> struct __components;
template <typename T> struct __components<T, 2> {
  union { T x, r; };
  union { T y, g; };
};
template <typename T> struct __components<T, 3> {
  union { T x, r; };
  union { T y, g; };
  union { T z, b; };
};
template <typename T> struct __components<T, 4> {
  union { T x, r; };
  union { T y, g; };
  union { T z, b; };
  union { T w, a; };
};

template <typename T, int N>
struct alignas(sizeof(T) * (N == 3 ? 4 : N)) vec : __components<T, N> {
  vec() = default;
  template <typename U, typename = enable_if_t<is_arithmetic<U>::value>> constexpr vec(U s) {
    for (int i = 0; i < N; ++i) (*this)[i] = (T)s;
  }
  template <typename U, typename V, typename... R>
  constexpr vec(const U& u, const V& v, const R&... rest) {
    static_assert((int)__lanes<U, V, R...>::value == N,
                  "the arguments of a vector constructor have too few or too many components");
    int at = 0;
    put(at, u);
    put(at, v);
    (put(at, rest), ...);
  }
  template <typename U> constexpr explicit vec(const vec<U, N>& v) {
    for (int i = 0; i < N; ++i) (*this)[i] = __convert<T, U>::from(v[i]);
  }
  constexpr T& operator[](int i) { return (&this->x)[i]; }
  constexpr const T& operator[](int i) const { return (&this->x)[i]; }
  template <int... I> TQ_FN __swizzled<T, (int)sizeof...(I)> __swizzle() & {
    return {{(*this)[I]...}, {&(*this)[I]...}};
  }
  template <int... I> TQ_FN vec<T, (int)sizeof...(I)> __swizzle() const& {
    return {(*this)[I]...};
  }
  template <int... I> TQ_FN vec<T, (int)sizeof...(I)> __swizzle() && { return {(*this)[I]...}; }

 private:
  template <typename U, typename = enable_if_t<is_arithmetic<U>::value>>
  constexpr void put(int& at, U s) {
    (*this)[at++] = __convert<T, U>::from(s);
  }
  template <typename U, int M> constexpr void put(int& at, const vec<U, M>& v) {
    for (int i = 0; i < M; ++i) (*this)[at++] = __convert<T, U>::from(v[i]);
  }
};

// Operators take two vectors, or a vector and a number that becomes one.
#define TQ_OPERATOR(OP, RESULT)                                                                \
  template <typename T, int N>                                                                \
  TQ_FN constexpr vec<RESULT, N> operator OP(const vec<T, N>& a, const vec<T, N>& b) {        \
    vec<RESULT, N> r{};                                                                       \
    for (int i = 0; i < N; ++i) r[i] = (RESULT)(a[i] OP b[i]);                                \
    return r;                                                                                 \
  }                                                                                           \
  template <typename T, int N, typename S, typename = enable_if_t<is_arithmetic<S>::value>>   \
  TQ_FN constexpr vec<RESULT, N> operator OP(const vec<T, N>& a, S b) {                       \
    return a OP vec<T, N>(b);                                                                 \
  }                                                                                           \
  template <typename T, int N, typename S, typename = enable_if_t<is_arithmetic<S>::value>>   \
  TQ_FN constexpr vec<RESULT, N> operator OP(S a, const vec<T, N>& b) {                       \
    return vec<T, N>(a) OP b;                                                                 \
  }
#define TQ_ARITHMETIC(OP)                                                                      \
  TQ_OPERATOR(OP, T)                                                                          \
  template <typename T, int N, typename U>                                                    \
  TQ_FN constexpr vec<T, N>& operator OP##=(vec<T, N>& a, const U& b) {                       \
    return a = a OP b;                                                                        \
  }
TQ_ARITHMETIC(+) TQ_ARITHMETIC(-) TQ_ARITHMETIC(*) TQ_ARITHMETIC(/) TQ_ARITHMETIC(%)
TQ_ARITHMETIC(&) TQ_ARITHMETIC(|) TQ_ARITHMETIC(^) TQ_ARITHMETIC(<<) TQ_ARITHMETIC(>>)
TQ_OPERATOR(<, bool) TQ_OPERATOR(>, bool) TQ_OPERATOR(<=, bool) TQ_OPERATOR(>=, bool)
TQ_OPERATOR(==, bool) TQ_OPERATOR(!=, bool) TQ_OPERATOR(&&, bool) TQ_OPERATOR(||, bool)
#define TQ_UNARY_OPERATOR(OP)                                             \
  template <typename T, int N> TQ_FN constexpr vec<T, N> operator OP(const vec<T, N>& a) { \
    vec<T, N> r{};                                                        \
    for (int i = 0; i < N; ++i) r[i] = (T)(OP a[i]);                      \
    return r;                                                             \
  }
TQ_UNARY_OPERATOR(-) TQ_UNARY_OPERATOR(~) TQ_UNARY_OPERATOR(!)

// Vectors without padding or alignment of their own.
template <typename T, int N> struct packed_vec : __components<T, N> {
  packed_vec() = default;
  TQ_FN packed_vec(const vec<T, N>& v) {
    for (int i = 0; i < N; ++i) (*this)[i] = v[i];
  }
  template <typename U, typename V, typename... R>
  TQ_FN packed_vec(const U& x, const V& y, const R&... rest)
      : packed_vec(vec<T, N>(x, y, rest...)) {}
  TQ_FN operator vec<T, N>() const {
    vec<T, N> v;
    for (int i = 0; i < N; ++i) v[i] = (*this)[i];
    return v;
  }
  TQ_FN T& operator[](int i) { return (&this->x)[i]; }
  TQ_FN T operator[](int i) const { return (&this->x)[i]; }
  template <int... I> TQ_FN __swizzled<T, (int)sizeof...(I)> __swizzle() & {
    return {{(*this)[I]...}, {&(*this)[I]...}};
  }
  template <int... I> TQ_FN vec<T, (int)sizeof...(I)> __swizzle() const& {
    return {(*this)[I]...};
  }
};
#define TQ_PACKED_TYPES(T)                \
  typedef packed_vec<T, 2> packed_##T##2; \
  typedef packed_vec<T, 3> packed_##T##3; \
  typedef packed_vec<T, 4> packed_##T##4;
TQ_PACKED_TYPES(char) TQ_PACKED_TYPES(uchar) TQ_PACKED_TYPES(short) TQ_PACKED_TYPES(ushort)
TQ_PACKED_TYPES(int) TQ_PACKED_TYPES(uint) TQ_PACKED_TYPES(half) TQ_PACKED_TYPES(float)
}  // namespace metal
