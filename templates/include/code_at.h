// Code `index` of a stream whose words stand `stride` apart from words[0]: bits [index * BITS,
// (index + 1) * BITS), least significant first.
template <int BITS, typename Words>
inline uint code_at(Words words, int stride, int index) {
  const int bit = index * BITS;
  const int word = bit >> 5;
  const int shift = bit & 31;
  uint code = words[word * stride] >> shift;
  if (shift + BITS > 32) {
    code |= words[(word + 1) * stride] << (32 - shift);
  }
  return code & ((1u << BITS) - 1u);
}
