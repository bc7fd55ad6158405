// Barriers and SIMD operations that not all reach; endless loops.

//: barrier_in_a_helper_in_a_branch barrier-divergence
void wait() { threadgroup_barrier(mem_flags::mem_threadgroup); }
//: kernel
if (t < 40) wait();
out[i] = 0;

//: guard_returns_before_the_barrier barrier-divergence
if (i >= 60) return;
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = s[t];

//: loop_count_differs barrier-divergence
for (uint k = t; k < 100; k += 64)
  threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = 0;

//: break_before_the_barrier barrier-divergence
for (int k = 0; k < 3; ++k) {
  if (x[i] > 60 && k == 1) break;
  threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
}
out[i] = 0;

//: both_branches_have_their_barrier barrier-divergence
if (t < 32) {
  threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
} else {
  threadgroup_barrier(mem_flags::mem_threadgroup); // ALSO
}
out[i] = 0;

//: shuffle_in_a_branch inactive-lane
float v = 0;
if (t % 32 < 16) v = simd_shuffle_down(x[i], 8); // FAULT
out[i] = v;

//: broadcast_past_a_ragged_simdgroup inactive-lane threads=48 group=48
out[i] = simd_broadcast(x[i], 31); // FAULT

//: shuffle_after_return inactive-lane
if (t % 32 > 20) return;
out[i] = simd_shuffle_xor(x[i], 16); // FAULT

//: sum_after_return simd-divergence soft=True
if (t >= 50) return;
out[i] = simd_sum(x[i]); // FAULT

//: matrix_in_a_branch inactive-lane threads=32 group=32
simdgroup_float8x8 a = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
simdgroup_float8x8 b = a;
if (t < 20) simdgroup_multiply(b, a, a); // FAULT
out[i] = b.thread_elements()[0];

//: spin_on_a_flag hang
threadgroup atomic_uint flag;
if (t == 0) atomic_store_explicit(&flag, 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
while (atomic_load_explicit(&flag, memory_order_relaxed) == 0u) { // FAULT
}
out[i] = 0;

//: unsigned_countdown hang
uint s = 0;
for (uint k = 3; k >= 0; --k) { // FAULT
  s += k; // ALSO
}
out[i] = s;
