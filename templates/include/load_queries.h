// ROWS queries in log2 units to threadgroup memory, zeros past the last; rotated on request.
template <typename Out, typename Queries, typename Signs>
inline void load_queries(
    Out out, Queries queries, Signs signs, int rows, float scale, bool rotate, uint thread_id) {
  for (int i = thread_id; i < ROWS * KEY_DIM; i += 32 * SIMDGROUPS) {
    const float value = i < rows * KEY_DIM ? float(queries[i]) * scale : 0.0f;
    out[i] = rotate ? value * signs[i % KEY_DIM] * rsqrt(float(KEY_DIM)) : value;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (rotate) {
    hadamard_threadgroup<M, POWER>(out, ROWS, HADAMARD_ROWS, thread_id, 32 * SIMDGROUPS);
  }
}
