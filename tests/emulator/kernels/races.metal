// Accesses that nothing orders.

//: neighbour_read_without_barrier race order=descending
threadgroup float s[64];
s[t] = x[i]; // ALSO
out[i] = s[(t + 1) % 64]; // FAULT

//: barrier_only_after_the_first_loop race
threadgroup float s[64];
for (uint k = 0; k < 2; ++k) {
  s[t] = x[i] + k; // FAULT
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[i] += s[63 - t]; // ALSO
}

//: reduction_reuses_its_buffer race
threadgroup float s[2];
float m = simd_max(x[i]);
if (thread_index_in_simdgroup == 0) s[simdgroup_index_in_threadgroup] = m; // ALSO
threadgroup_barrier(mem_flags::mem_threadgroup);
m = max(s[0], s[1]); // ALSO
float d = simd_sum(x[i] - m);
if (thread_index_in_simdgroup == 0) s[simdgroup_index_in_threadgroup] = d; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0] + s[1];

//: flag_for_device_memory_only race soft=True
threadgroup float s[64];
s[t] = x[i]; // ALSO
threadgroup_barrier(mem_flags::mem_device);
out[i] = s[63 - t]; // FAULT

//: device_memory_behind_a_threadgroup_barrier race soft=True
out[i] = x[i]; // ALSO
threadgroup_barrier(mem_flags::mem_threadgroup);
float v = out[i ^ 1]; // FAULT
threadgroup_barrier(mem_flags::mem_device);
out[i] = v;

//: histogram_without_atomics race
out[i % 8] += x[i]; // FAULT

//: histogram_across_groups race threads=128 size=128 out_size=1
threadgroup float mine[1];
if (t == 0) mine[0] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
if (t == 0) out[0] += mine[0]; // FAULT

//: halo_written_by_two_groups race threads=128 size=128 out_size=128
out[i] = x[i];
if (t == 63 && i < 64) out[i + 1] = x[i]; // ALSO

//: group_reads_its_neighbours_output race threads=128 size=128 out_size=128
out[i] = x[i]; // ALSO
float v = out[(i + 64) % 128]; // FAULT
if (v < 0) out[i] = v;

//: simdgroup_barrier_between_simdgroups race
threadgroup float s[64];
s[t] = x[i]; // ALSO
simdgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[63 - t]; // FAULT

//: bytes_of_one_word race
threadgroup uint w[16];
threadgroup uchar* b = (threadgroup uchar*)w;
if (t < 16) w[t] = 0; // ALSO
b[t] = uchar(t); // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = w[t / 4];

//: in_a_helper_by_threadgroup_pointer race
void put(threadgroup float* s, uint t, float v) { s[t] = v; }
float take(threadgroup float* s, uint t) { return s[t]; }
//: kernel
threadgroup float s[64];
put(s, t, x[i]); // ALSO
out[i] = take(s, 63 - t);

//: plain_store_to_an_atomic race
threadgroup atomic_uint count;
if (t == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);
atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
((threadgroup uint*)&count)[0] = t; // FAULT
out[i] = 0;

//: matrix_tiles_overlap race
threadgroup float tile[64];
simdgroup_float8x8 m = make_filled_simdgroup_matrix<float, 8, 8>(float(t / 32));
simdgroup_store(m, tile, 8); // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = tile[t];

//: same_value_by_all race soft=True
threadgroup float s[1];
s[0] = 1; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];

//: only_lanes_of_a_simdgroup race threads=32 group=32 size=32 out_size=32 soft=True
threadgroup float s[32];
s[t] = x[i]; // ALSO
float v = simd_sum(1.0f);
out[i] = s[31 - t] + v; // FAULT

//: sum_by_atomics_is_read_plainly race
threadgroup atomic_float sum;
if (t == 0) atomic_store_explicit(&sum, 0.0f, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
atomic_fetch_add_explicit(&sum, x[i], memory_order_relaxed); // ALSO
if (t == 63) out[0] = *(threadgroup float*)&sum; // FAULT
