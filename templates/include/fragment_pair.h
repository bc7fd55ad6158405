// Both codes of pair `pair` of a lane's unit of BITS words, the second one 16 bits above the first.
// The words are turned back by one bit. Every number but the words is known when `pair` is.
template <int BITS, typename Words>
inline uint fragment_pair(Words unit, int pair) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  if (pair < EACH * BITS) {
    return unit[pair / EACH] >> (pair % EACH * BITS) & ((1u << BITS) - 1u) * 0x10001u;
  }
  uint both = 0;  // its bits are in the words' spare ones
#pragma unroll
  for (int bit = 0; bit < BITS; ++bit) {
    const int at = (pair - EACH * BITS) * BITS + bit;
    const int place = 16 - SPARE + at % max(SPARE, 1);
    both |= (unit[at / max(SPARE, 1)] >> place & 0x10001u) << bit;
  }
  return both;
}
