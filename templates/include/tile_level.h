// Codes `first` and the next of a stream as y = (2 c + 1) / 2^BITS - 1, exactly.
template <int BITS, typename Words>
inline half2 tile_level(Words stream, int first) {
  const uint both = code_at<BITS>(stream, 1, first) | code_at<BITS>(stream, 1, first + 1) << 16;
  const half2 code = as_type<half2>(both | 0x64006400u) - as_type<half2>(0x64006400u);  // of 1024 + c
  const float step = 1.0f / float(1 << BITS);
  return fma(code, half2(half(2.0f * step)), half2(half(step - 1.0f)));
}
