// The Hadamard transform of order M * POWER, H_M kron H_POWER, of an array of the thread's own.
template <int M, int POWER, typename Vector, typename Rows>
inline void hadamard_serial(Vector x, Rows rows) {
  for (int stage = 0; 1 << stage < POWER; ++stage) {
    for (int pair = 0; pair < M * POWER / 2; ++pair) {
      hadamard_pair(x, pair, stage);
    }
  }
  if (M > 1) {
    for (int p = 0; p < POWER; ++p) {
      hadamard_order<M>(x, p, POWER, rows);
    }
  }
}
