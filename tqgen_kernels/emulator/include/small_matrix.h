// Matrices of up to 4x4 that one thread holds, by columns.
#pragma once

namespace metal {
// A column, also as `{1, 0, 0}` gives it.
template <typename T, int Rows> struct __braced {
  vec<T, Rows> made;
  constexpr __braced(vec<T, Rows> v) : made(v) {}
  template <int R = Rows, enable_if_t<R == 2, int> = 0>
  constexpr __braced(T x, T y) : made{x, y} {}
  template <int R = Rows, enable_if_t<R == 3, int> = 0>
  constexpr __braced(T x, T y, T z) : made{x, y, z} {}
  template <int R = Rows, enable_if_t<R == 4, int> = 0>
  constexpr __braced(T x, T y, T z, T w) : made{x, y, z, w} {}
};

template <typename T, int Columns, int Rows> struct matrix {
  typedef vec<T, Rows> column;
  column columns[Columns];
  constexpr matrix() = default;
  constexpr explicit matrix(T x) : columns{} {
    for (int j = 0; j < Columns && j < Rows; ++j) columns[j][j] = x;
  }
  // Columns, which may be in braces, or all elements column by column.
#define TQ_FROM_COLUMNS(COLUMN, EACH, AS)                                                    \
  template <int C = Columns, enable_if_t<C == 2, int> = 0>                                   \
  constexpr matrix(COLUMN a, COLUMN b) AS : columns{EACH(a), EACH(b)} {}                     \
  template <int C = Columns, enable_if_t<C == 3, int> = 0>                                   \
  constexpr matrix(COLUMN a, COLUMN b, COLUMN c) AS : columns{EACH(a), EACH(b), EACH(c)} {}  \
  template <int C = Columns, enable_if_t<C == 4, int> = 0>                                   \
  constexpr matrix(COLUMN a, COLUMN b, COLUMN c, COLUMN d) AS                                \
      : columns{EACH(a), EACH(b), EACH(c), EACH(d)} {}
#define TQ_SAME(x) x
#define TQ_IN_BRACES(x) x.made
  typedef __braced<T, Rows> braced;
  TQ_FROM_COLUMNS(column, TQ_SAME, )
#ifndef TQ_PLAIN  // there a column is a class, which takes braces itself
  TQ_FROM_COLUMNS(braced, TQ_IN_BRACES, )
  TQ_FROM_COLUMNS(braced, TQ_IN_BRACES, __constant)
#endif
  template <typename U, typename... V>
  constexpr matrix(U first, V... rest)
      : matrix(bool_constant<(int)__shape<U>::lanes == 1>(), first, rest...) {}
#ifdef TQ_PLAIN
  TQ_FN constexpr column& operator[](int j) { return columns[j]; }
  TQ_FN constexpr column operator[](int j) const { return columns[j]; }
#else
  // Templates, so that copies within other address spaces stay trivial.
  template <int = 0> constexpr matrix(const __constant matrix& m) : columns{} {
    for (int j = 0; j < Columns; ++j) columns[j] = m.columns[j];
  }
#define TQ_MATRIX_ASSIGN(AS)                                                \
  template <int = 0> TQ_FN AS matrix& operator=(const __constant matrix& m) AS { \
    for (int j = 0; j < Columns; ++j) columns[j] = m.columns[j];            \
    return *this;                                                           \
  }
  TQ_MATRIX_ASSIGN(__private) TQ_MATRIX_ASSIGN(__global) TQ_MATRIX_ASSIGN(__local)
  TQ_FN constexpr column operator[](int j) const __constant & { return columns[j]; }
  TQ_FN __global column& operator[](int j) __global & { return columns[j]; }
  TQ_FN __local column& operator[](int j) __local & { return columns[j]; }
  TQ_FN constexpr __private column& operator[](int j) __private & { return columns[j]; }
  TQ_FN constexpr column operator[](int j) const & { return columns[j]; }
  TQ_FN constexpr column operator[](int j) && { return columns[j]; }
#endif

 private:
  template <typename... V> constexpr matrix(false_type, V... each) : columns{each...} {
    static_assert((int)sizeof...(V) == Columns, "a matrix is made from all of its columns");
  }
  template <typename... V> constexpr matrix(true_type, V... each) : columns{} {
    static_assert((int)sizeof...(V) == Columns * Rows, "a matrix is made from all of its elements");
    T flat[] = {(T)each...};
    for (int j = 0; j < Columns; ++j)
      for (int i = 0; i < Rows; ++i) columns[j][i] = flat[j * Rows + i];
  }
};

template <typename T, int C, int R>
TQ_FN vec<T, R> operator*(const matrix<T, C, R> m, typename matrix<T, R, C>::column v) {
  vec<T, R> r = m.columns[0] * v[0];
  for (int j = 1; j < C; ++j) r += m.columns[j] * v[j];
  return r;
}
template <typename T, int C, int R>
TQ_FN vec<T, C> operator*(typename matrix<T, C, R>::column v, const matrix<T, C, R> m) {
  vec<T, C> r;
  for (int j = 0; j < C; ++j) {
    T sum = v[0] * m.columns[j][0];
    for (int i = 1; i < R; ++i) sum += v[i] * m.columns[j][i];
    r[j] = sum;
  }
  return r;
}
template <typename T, int K, int C, int R>
TQ_FN matrix<T, C, R> operator*(const matrix<T, K, R> a, const matrix<T, C, K> b) {
  matrix<T, C, R> r;
  for (int j = 0; j < C; ++j) r.columns[j] = a * b.columns[j];
  return r;
}
#define TQ_MATRIX_SUM(OP)                                                       \
  template <typename T, int C, int R>                                           \
  TQ_FN matrix<T, C, R> operator OP(matrix<T, C, R> a, const matrix<T, C, R> b) { \
    for (int j = 0; j < C; ++j) a.columns[j] = a.columns[j] OP b.columns[j];    \
    return a;                                                                   \
  }
TQ_MATRIX_SUM(+) TQ_MATRIX_SUM(-)
template <typename T, int C, int R>
TQ_FN matrix<T, C, R> __scaled(matrix<T, C, R> m, T x) {
  for (int j = 0; j < C; ++j) m.columns[j] = m.columns[j] * x;
  return m;
}

template <typename T, int C, int R> TQ_FN matrix<T, C, R> operator-(matrix<T, C, R> m) {
  return __scaled(m, (T)-1.0f);
}
template <typename T, int C, int R>
TQ_FN TQ_THREAD matrix<T, C, R>& operator+=(TQ_THREAD matrix<T, C, R>& a, const matrix<T, C, R> b) {
  a = a + b;
  return a;
}
template <typename T, int C, int R>
TQ_FN TQ_THREAD matrix<T, C, R>& operator-=(TQ_THREAD matrix<T, C, R>& a, const matrix<T, C, R> b) {
  a = a - b;
  return a;
}
template <typename T, int C, int R>
TQ_FN TQ_THREAD matrix<T, C, R>& operator*=(TQ_THREAD matrix<T, C, R>& a, const matrix<T, C, C> b) {
  a = a * b;
  return a;
}
template <typename T, int C, int R>
TQ_FN TQ_THREAD matrix<T, C, R>& operator*=(TQ_THREAD matrix<T, C, R>& a, T x) {
  a = __scaled(a, x);
  return a;
}

template <typename T, int C, int R> TQ_FN matrix<T, R, C> transpose(const matrix<T, C, R> m) {
  matrix<T, R, C> r;
  for (int j = 0; j < C; ++j)
    for (int i = 0; i < R; ++i) r.columns[i][j] = m.columns[j][i];
  return r;
}
template <typename T> TQ_FN T determinant(const matrix<T, 2, 2> m) {
  return m.columns[0][0] * m.columns[1][1] - m.columns[1][0] * m.columns[0][1];
}
// By the first row.
template <typename T, int N> TQ_FN T determinant(const matrix<T, N, N> m) {
  T sum = (T)0.0f;
  for (int k = 0; k < N; ++k) {
    matrix<T, N - 1, N - 1> minor;
    for (int j = 0; j < N - 1; ++j)
      for (int i = 0; i < N - 1; ++i) minor.columns[j][i] = m.columns[j + (j >= k)][i + 1];
    T part = m.columns[k][0] * determinant(minor);
    sum = k % 2 ? sum - part : sum + part;
  }
  return sum;
}
#define TQ_MATRIX_TYPE(T, C, R)                                                            \
  typedef matrix<T, C, R> T##C##x##R;                                                      \
  TQ_FN T##C##x##R operator*(T##C##x##R m, T x) { return __scaled(m, x); }                 \
  TQ_FN T##C##x##R operator*(T x, T##C##x##R m) { return __scaled(m, x); }
#define TQ_MATRIX_TYPES(T)                                                                 \
  TQ_MATRIX_TYPE(T, 2, 2) TQ_MATRIX_TYPE(T, 2, 3) TQ_MATRIX_TYPE(T, 2, 4)                  \
  TQ_MATRIX_TYPE(T, 3, 2) TQ_MATRIX_TYPE(T, 3, 3) TQ_MATRIX_TYPE(T, 3, 4)                  \
  TQ_MATRIX_TYPE(T, 4, 2) TQ_MATRIX_TYPE(T, 4, 3) TQ_MATRIX_TYPE(T, 4, 4)
TQ_MATRIX_TYPES(float)
TQ_MATRIX_TYPES(half)
#ifndef TQ_PLAIN
TQ_MATRIX_TYPES(bfloat)
#endif
}  // namespace metal
