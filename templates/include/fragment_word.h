// Word `item` = (unit * BITS + word) * 32 + lane of a tile in the fragment layout, from the codes of
// the tile, token by token. 32 coordinates are a unit of 16 fragments of 8 coordinates x 8 tokens;
// the rows are tokens for keys and coordinates for values; lane = row * 4 + column / 2.
template <int BITS, int DIM, bool KEYS, typename Codes>
inline uint fragment_word(Codes codes, int item) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  const int row = item / 4 % 8;
  const int column = item % 4 * 2;
  const int word = item / 32 % BITS;
  const int unit = item / 32 / BITS;
  const int from = KEYS ? row * DIM + column : column * DIM + row;  // the first code, in a fragment
  const int next = KEYS ? 1 : DIM;  // to the second code of a pair

  uint packed = 0;
  for (int i = 0; i < EACH; ++i) {
    const int pair = word * EACH + i;
    const int at = from + unit * 32 + pair / 4 * 8 + pair % 4 * 8 * DIM;
    packed |= (codes[at] | uint(codes[at + next]) << 16) << (i * BITS);
  }
  // The pairs that do not fit are one stream over the spare bits.
  for (int i = 0; i < SPARE; ++i) {
    const int pair = EACH * BITS + (word * SPARE + i) / BITS;
    const int bit = (word * SPARE + i) % BITS;
    const int at = from + unit * 32 + pair / 4 * 8 + pair % 4 * 8 * DIM;
    const uint both = codes[at] | uint(codes[at + next]) << 16;
    packed |= (both >> bit & 0x10001u) << (16 - SPARE + i);
  }
  return packed << 1 | packed >> 31;
}
