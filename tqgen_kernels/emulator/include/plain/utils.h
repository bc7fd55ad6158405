// What kernels use most of MLX's utilities. MLX's own need address spaces.
#pragma once

struct complex64_t {
  float real, imag;
};
#define TQ_LIMITS(T, MAX, MIN)                                                          \
  template <> struct Limits<T> {                                                        \
    static constexpr T max = MAX;                                                       \
    static constexpr T min = MIN;                                                       \
    static constexpr T finite_max = metal::numeric_limits<T>::max();                    \
    static constexpr T finite_min = metal::numeric_limits<T>::lowest();                 \
  };
template <typename T> struct Limits;
#define TQ_INT_LIMIT(T) TQ_LIMITS(T, metal::numeric_limits<T>::max(), metal::numeric_limits<T>::min())
#define TQ_FLOAT_LIMIT(T) \
  TQ_LIMITS(T, metal::numeric_limits<T>::infinity(), (T) - metal::numeric_limits<T>::infinity())
TQ_INT_LIMIT(uint8_t) TQ_INT_LIMIT(uint16_t) TQ_INT_LIMIT(uint32_t) TQ_INT_LIMIT(uint64_t)
TQ_INT_LIMIT(int8_t) TQ_INT_LIMIT(int16_t) TQ_INT_LIMIT(int32_t) TQ_INT_LIMIT(int64_t)
TQ_FLOAT_LIMIT(half) TQ_FLOAT_LIMIT(float) TQ_FLOAT_LIMIT(bfloat16_t)

template <typename I = int64_t>
inline I elem_to_loc(I element, const int* shape, const int64_t* strides, int ndim) {
  I place = 0;
  for (int i = ndim - 1; i >= 0 && element > 0; --i) {
    place += (element % shape[i]) * I(strides[i]);
    element /= shape[i];
  }
  return place;
}
template <typename I = int64_t>
inline I elem_to_loc(uint3 at, const int* shape, const int64_t* strides, int ndim) {
  I place = at.x * I(strides[ndim - 1]) + at.y * I(strides[ndim - 2]);
  for (int d = ndim - 3; d >= 0; --d) {
    place += (at.z % shape[d]) * I(strides[d]);
    at.z /= shape[d];
  }
  return place;
}
template <typename T, typename U> inline T ceildiv(T n, U m) { return (n + m - 1) / m; }
