// simdgroup_matrix: an 8x8 matrix of which every lane holds two elements of a row.
#pragma once

namespace __tq {
// Which elements a lane holds: (row, column) and (row, column + 1).
TQ_FN uint row_of(uint lane) { return (lane >> 2 & 4) + (lane >> 1 & 3); }
TQ_FN uint column_of(uint lane) { return (lane >> 2 & 2) * 2 + (lane & 1) * 2; }
// Address of row i, column j, of a matrix in memory.
template <typename P> TQ_FN P at(P p, uint i, uint j, ulong stride, ulong2 origin, bool transpose) {
  return transpose ? p + (origin.x + j) * stride + origin.y + i
                   : p + (origin.y + i) * stride + origin.x + j;
}
template <typename D, typename A, typename B, typename C>
TQ_COLD void multiply(uint mask, tq_slot* slots) {
  float a[8][8], b[8][8], c[8][8];
  for (uint l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) tq_inactive_lane((uint)__builtin_ctz(mask), l);
    uint i = row_of(l), j = column_of(l);
    __generic char* in = (__generic char*)slots[l].in;
    for (uint k = 0; k < 2; ++k) {
      a[i][j + k] = (float)((__generic A*)in)[k];
      b[i][j + k] = (float)((__generic B*)(in + 8))[k];
      c[i][j + k] = (float)((__generic C*)(in + 16))[k];
    }
  }
  for (int i = 0; i < 8; ++i)
    for (int k = 0; k < 8; ++k) {
      float x = a[i][k];
      for (int j = 0; j < 8; ++j) c[i][j] += x * b[k][j];
    }
  for (uint l = 0; l < 32; ++l) {
    uint i = row_of(l), j = column_of(l);
    for (uint k = 0; k < 2; ++k)
      ((__generic D*)slots[l].out)[k] = metal::__convert<D, float>::from(c[i][j + k]);
  }
}
}  // namespace __tq

namespace metal {
template <typename T, int Columns = 8, int Rows = Columns> struct simdgroup_matrix {
  static_assert(Columns == 8 && Rows == 8, "simdgroup_matrix is 8x8");
  static_assert(__is_float<T>::value, "simdgroup_matrix holds float, half or bfloat");
  typedef vec<T, 2> storage_type;
  typedef T value_type;
  storage_type __two;

  simdgroup_matrix() = default;
  // A scalar fills the diagonal.
  explicit simdgroup_matrix(T x) {
    uint i = __tq::row_of(__tq::lane()), j = __tq::column_of(__tq::lane());
    __two[0] = i == j ? x : (T)0.0f;
    __two[1] = i == j + 1 ? x : (T)0.0f;
  }
#ifndef TQ_PLAIN
  TQ_FN __private storage_type& thread_elements() __private { return __two; }
#endif
  TQ_FN const __private storage_type& thread_elements() const __private { return __two; }
  TQ_FN __generic storage_type& thread_elements() { return __two; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <typename T, int C, int R = C>
TQ_FN simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T x) {
  simdgroup_matrix<T, C, R> m;
  m.__two[0] = m.__two[1] = x;
  return m;
}
template <typename T, int C, int R = C>
TQ_FN simdgroup_matrix<T, C, R> make_diagonal_simdgroup_matrix(T x) {
  return simdgroup_matrix<T, C, R>(x);
}

#define TQ_MATRIX_LOAD(AS)                                                                   \
  template <typename T, int C, int R>                                                       \
  TQ_FN void simdgroup_load(TQ_THREAD simdgroup_matrix<T, C, R>& m, const AS T* p,           \
                            ulong stride = C, ulong2 origin = ulong2{0, 0},                  \
                            bool transpose = false) {                                       \
    uint i = __tq::row_of(__tq::lane()), j = __tq::column_of(__tq::lane());                 \
    m.__two[0] = *__tq::at(p, i, j, stride, origin, transpose);                             \
    m.__two[1] = *__tq::at(p, i, j + 1, stride, origin, transpose);                         \
  }
#define TQ_MATRIX_STORE(AS)                                                                  \
  template <typename T, int C, int R>                                                       \
  TQ_FN void simdgroup_store(const simdgroup_matrix<T, C, R> m, AS T* p, ulong stride = C,   \
                             ulong2 origin = ulong2{0, 0}, bool transpose = false) {         \
    uint i = __tq::row_of(__tq::lane()), j = __tq::column_of(__tq::lane());                 \
    *__tq::at(p, i, j, stride, origin, transpose) = m.__two[0];                             \
    *__tq::at(p, i, j + 1, stride, origin, transpose) = m.__two[1];                         \
  }
TQ_EACH_SPACE(TQ_MATRIX_LOAD)
TQ_EACH_WRITABLE_SPACE(TQ_MATRIX_STORE)

// d = a b + c; sums are kept in float and rounded once, to the type of d.
template <typename D, typename A, typename B, typename C>
TQ_FN void simdgroup_multiply_accumulate(TQ_THREAD simdgroup_matrix<D, 8, 8>& d,
                                         simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                                         simdgroup_matrix<C, 8, 8> c, TQ_LINE) {
  tq_slot* s = tq_my_slot();
  __generic char* in = (__generic char*)s->in;
  *(__generic vec<A, 2>*)in = a.__two;
  *(__generic vec<B, 2>*)(in + 8) = b.__two;
  *(__generic vec<C, 2>*)(in + 16) = c.__two;
  tq_simd_wait(__tq::multiply<D, A, B, C>, __line, __tq::shuffle);
  d.__two = *(__generic vec<D, 2>*)s->out;
}
template <typename D, typename A, typename B>
TQ_FN void simdgroup_multiply(TQ_THREAD simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a,
                              simdgroup_matrix<B, 8, 8> b, TQ_LINE) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>((D)0.0f), __line);
}
template <typename T>
TQ_FN simdgroup_matrix<T, 8, 8> operator*(simdgroup_matrix<T, 8, 8> a, simdgroup_matrix<T, 8, 8> b) {
  simdgroup_matrix<T, 8, 8> d;
  simdgroup_multiply(d, a, b);
  return d;
}
}  // namespace metal
