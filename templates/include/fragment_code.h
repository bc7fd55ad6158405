// The fragment layout of a tile, one code at a time. 32 coordinates are a unit: BITS words a lane.
// Fragment block * 4 + group of a unit is 8 coordinates x 8 tokens; the rows are tokens for keys
// and coordinates for values; lane = row * 4 + column / 2.

// Bit `bit` of the first code of pair `pair`, as word * 32 + place before the turn by one bit.
template <int BITS>
inline int fragment_place(int pair, int bit) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  if (pair < EACH * BITS) {
    return pair / EACH * 32 + pair % EACH * BITS + bit;
  }
  const int index = (pair - EACH * BITS) * BITS + bit;  // in the stream over the spare bits
  return index / max(SPARE, 1) * 32 + 16 - SPARE + index % max(SPARE, 1);
}

// The code of column `column` of this row of fragment `pair`; `words` is the lane's first word.
template <int BITS, typename Words>
inline uint fragment_code(Words words, int pair, int column) {
  uint code = 0;
  for (int bit = 0; bit < BITS; ++bit) {
    const int place = fragment_place<BITS>(pair, bit);
    const uint word = words[place / 32 * 32];
    code |= (word >> ((place + 1 + column % 2 * 16) & 31) & 1u) << bit;
  }
  return code;
}
