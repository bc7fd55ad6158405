// Pair `pair` of a lane's unit of BITS words: both codes c as y = (2 c + 1) / 2^BITS - 1, exactly.
// Every number but the words is known when `pair` is: an and-or and a subtraction remain, and a
// turn where the field does not end below bit 10 of its half.
template <int BITS, typename Words>
inline half2 fragment_level(Words unit, int pair) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  constexpr int REACH = 9 / BITS;  // pairs of a word that one turn brings below bit 10
  constexpr uint FIELD = ((1u << BITS) - 1u) * 0x10001u;
  int place = 1;
  uint field = FIELD << 1;
  uint word = 0;
  if (pair < EACH * BITS) {
    const int turn = pair % EACH / REACH * REACH * BITS;
    word = unit[pair / EACH];
    word = turn == 0 ? word : word >> turn | (SPARE == 0 ? word << (32 - turn) : 0u);
    place = 1 + pair % EACH * BITS - turn;
    field = FIELD << place;
  } else {  // its bits are in the words' spare ones
    const int first = (pair - EACH * BITS) * BITS;
#pragma unroll
    for (int k = 0; k < BITS; ++k) {
      const int begin = max(first, k * SPARE);
      const int count = min(first + BITS, (k + 1) * SPARE) - begin;
      const int at = 1 + begin - first;
      const int turn = 17 - SPARE + begin - k * SPARE - at;
      if (count > 0) {
        const uint turned = unit[k] >> turn | unit[k] << (32 - turn);
        word = and_or(turned, ((1u << count) - 1u) * 0x10001u << at, word);
      }
    }
  }
  // 2 c + 1 stands behind the leading one of a half of this exponent; less that one and 1, it is y.
  const uint exponent = uint(26 - place - BITS) << 10;
  const uint one = (exponent | 1u << (place + BITS - 1)) * 0x10001u;
  const uint below = (exponent | 1u << (place - 1)) * 0x10001u;
  return as_type<half2>(and_or(word, field, below)) - as_type<half2>(one);
}
