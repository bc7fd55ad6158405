// The Hadamard transform of order M * POWER, H_M kron H_POWER, by LANES neighbouring lanes of a SIMD
// group, as they share a vector (lanes.h).
template <int M, int POWER, int LANES, typename Vector, typename Rows>
inline void hadamard_lanes(Vector x, Rows rows, uint lane) {
  constexpr int PER_POWER = POWER / LANES;
#pragma unroll
  for (ushort distance = 1; distance < LANES; distance *= 2) {
    const float sign = (lane & distance) != 0 ? -1.0f : 1.0f;
#pragma unroll
    for (int r = 0; r < M * PER_POWER; ++r) {
      x[r] = simd_shuffle_xor(x[r], distance) + sign * x[r];
    }
  }
#pragma unroll
  for (int stage = 0; 1 << stage < PER_POWER; ++stage) {
#pragma unroll
    for (int pair = 0; pair < M * PER_POWER / 2; ++pair) {
      hadamard_pair(x, pair, stage);
    }
  }
  if (M > 1) {
#pragma unroll
    for (int p = 0; p < PER_POWER; ++p) {
      hadamard_order<M>(x, p, PER_POWER, rows);
    }
  }
}
