// simdgroup_matrix<T, 8, 8>: lane l holds row l / 4, columns 2 * (l % 4) and the next, which is how
// the tensor core instructions of 8 rows hold their operands.

namespace metal {

template <typename T, int Rows, int Columns>
struct simdgroup_matrix {
  static_assert(Rows == 8 && Columns == 8, "simdgroup_matrix is 8 x 8");
  vec<T, 2> elements;
  simdgroup_matrix() = default;
  inline explicit simdgroup_matrix(T diagonal) {
    const int row = warp::lane() / 4, column = warp::lane() % 4 * 2;
    elements = vec<T, 2>(row == column ? diagonal : T(0.0f), row == column + 1 ? diagonal : T(0.0f));
  }
  inline vec<T, 2>& thread_elements() { return elements; }
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<__half, 8, 8>;

template <typename T, int R, int C>
inline simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> out;
  out.elements = vec<T, 2>(value, value);
  return out;
}

namespace warp {
template <typename From>
inline long at(From origin, uint stride, int row, int column, bool transpose) {
  row += int(origin.y);
  column += int(origin.x);
  return transpose ? long(column) * stride + row : long(row) * stride + column;
}
}  // namespace warp

template <typename T, typename Source>
inline void simdgroup_load(
    simdgroup_matrix<T, 8, 8>& d, Source source, uint stride = 8,
    ulong2 origin = ulong2(0, 0), bool transpose = false) {
  const int row = warp::lane() / 4, column = warp::lane() % 4 * 2;
  d.elements.x = T(source[warp::at(origin, stride, row, column, transpose)]);
  d.elements.y = T(source[warp::at(origin, stride, row, column + 1, transpose)]);
}

template <typename T, typename Target>
inline void simdgroup_store(
    simdgroup_matrix<T, 8, 8> a, Target target, uint stride = 8,
    ulong2 origin = ulong2(0, 0), bool transpose = false) {
  const int row = warp::lane() / 4, column = warp::lane() % 4 * 2;
  target[warp::at(origin, stride, row, column, transpose)] = a.elements.x;
  target[warp::at(origin, stride, row, column + 1, transpose)] = a.elements.y;
}

// Any element types, exactly in float32: three shuffles for each of the 8 terms.
template <typename D, typename A, typename B, typename C>
inline void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
    simdgroup_matrix<C, 8, 8> c) {
  const uint lane = warp::lane();
  float x = float(c.elements.x), y = float(c.elements.y);
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const A left = simd_shuffle(k % 2 ? a.elements.y : a.elements.x, (lane & ~3u) + k / 2);
    const vec<B, 2> right = simd_shuffle(b.elements, k * 4 + (lane & 3u));
    x = ::fmaf(float(left), float(right.x), x);
    y = ::fmaf(float(left), float(right.y), y);
  }
  d.elements = vec<D, 2>(D(x), D(y));
}

// Halves with a float32 sum on the tensor cores: the instruction has 16 rows, 8 of them zero.
inline void simdgroup_multiply_accumulate(
    simdgroup_matrix<float, 8, 8>& d, simdgroup_matrix<__half, 8, 8> a,
    simdgroup_matrix<__half, 8, 8> b, simdgroup_matrix<float, 8, 8> c) {
  uint columns;  // b transposed: the instruction wants a lane's two elements of one column
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;"
      : "=r"(columns)
      : "r"(as_type<uint>(b.elements)));
  float below[2];  // the other 8 rows
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%7, %8, %9, %9};"
      : "=f"(d.elements.x), "=f"(d.elements.y), "=f"(below[0]), "=f"(below[1])
      : "r"(as_type<uint>(a.elements)), "r"(0u), "r"(columns), "f"(c.elements.x),
        "f"(c.elements.y), "f"(0.0f));
}

template <typename D, typename A, typename B>
inline void simdgroup_multiply(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0.0f)));
}

}  // namespace metal
