// Word `word` of the stream of `count` codes that stand `stride` bytes apart from codes[0].
template <int BITS, typename Codes>
inline uint pack_word(Codes codes, int stride, int count, int word) {
  const int first_bit = word * 32;
  const int first = first_bit / BITS;
  const int last = min((first_bit + 31) / BITS, count - 1);
  uint packed = 0;
  for (int j = first; j <= last; ++j) {
    const uint code = codes[j * stride];
    const int shift = j * BITS - first_bit;
    packed |= shift >= 0 ? code << shift : code >> -shift;
  }
  return packed;
}
