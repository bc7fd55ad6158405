// The Hadamard transform of order M * POWER, H_M kron H_POWER, of `count` vectors that follow one
// another in threadgroup memory, by all `threads` threads together. The caller has a barrier before;
// there is one at the end.
template <int M, int POWER, typename Vectors, typename Rows>
inline void hadamard_threadgroup(Vectors x, int count, Rows rows, uint thread_id, uint threads) {
  for (int stage = 0; 1 << stage < POWER; ++stage) {
    for (int pair = thread_id; pair < count * M * POWER / 2; pair += threads) {
      hadamard_pair(x, pair, stage);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  if (M > 1) {
    for (int item = thread_id; item < count * POWER; item += threads) {
      hadamard_order<M>(x, item / POWER * M * POWER + item % POWER, POWER, rows);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
