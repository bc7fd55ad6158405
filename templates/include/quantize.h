// From a vector to codes and one scale.

// NaN and infinity by their exponent: comparisons may be optimised away under fast math.
inline bool is_finite(float x) {
  return (as_type<uint>(x) & 0x7f800000u) != 0x7f800000u;
}

// How many of the 2^BITS - 1 ascending boundaries lie below y: the nearest centroid.
template <int BITS, typename Table>
inline uint nearest_code(float y, Table boundaries) {
  uint code = 0;
  for (int step = 1 << (BITS - 1); step > 0; step /= 2) {
    code += y > boundaries[code + step - 1] ? step : 0;
  }
  return code;
}

// The stored scale: fp16 ends at 65504; a token that was not finite says so.
inline half stored_scale(float scale, bool finite) {
  return finite ? half(min(scale, 65504.0f)) : as_type<half>(ushort(0x7e00));
}
