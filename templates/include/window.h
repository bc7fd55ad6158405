// The BITS bits from bit index * BITS on of a stream whose words stand `stride` apart from words[0];
// the bits above them are not zero.
template <int BITS, typename Words>
inline uint window_at(Words words, int stride, int index) {
  const int bit = index * BITS;
  const int word = bit >> 5;
  const int shift = bit & 31;
  uint window = words[word * stride] >> shift;
  if (shift + BITS > 32) {
    window |= words[(word + 1) * stride] << (32 - shift);
  }
  return window;
}
