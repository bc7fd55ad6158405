// Accesses outside of what there is.

//: ragged_group_without_a_guard out-of-bounds size=60
uint n = 60;
out[i] = x[i]; // FAULT
(void)n;

//: guard_off_by_one out-of-bounds size=60 index=60
if (i <= 60) out[i] = x[i]; // FAULT

//: stencil_at_the_left_edge out-of-bounds buffer=x
out[i] = x[i - 1] + x[i]; // FAULT

//: stencil_at_the_right_edge out-of-bounds index=64
if (i > 0) out[i] = x[i - 1] - 2 * x[i] + x[i + 1]; // FAULT

//: stride_too_long out-of-bounds buffer=x index=64
for (uint k = 0; k < 4; ++k) out[i] += x[k * 17 + i % 16]; // FAULT

//: vector_load_reaches_past_the_end out-of-bounds threads=20 group=20 size=68 buffer=x
device const float4* v = (device const float4*)x;
float4 q = v[i]; // FAULT
out[i] = q.x;

//: vector_store_reaches_past_the_end out-of-bounds threads=33 group=33 buffer=out index=64
((device float2*)out)[i] = float2(1); // FAULT

//: in_a_helper_by_pointer out-of-bounds buffer=x
float at(device const float* p, uint i, uint k) { return p[i + k]; }
//: kernel
out[i] = at(x, i, 3);

//: in_a_template out-of-bounds buffer=x
template <typename T, int N>
METAL_FUNC T total(const device T* p) {
  T sum = 0;
  for (int k = 0; k < N; ++k) sum += p[k];
  return sum;
}
//: kernel
out[i] = total<float, 5>(x + i);

//: through_bytes out-of-bounds buffer=x
device const uchar* bytes = (device const uchar*)x;
uint v = bytes[4 * i + 4]; // FAULT
out[i] = v;

//: loop_runs_once_too_often out-of-bounds threads=32 group=32 space=threadgroup
threadgroup float tile[32];
for (uint k = t; k <= 32; k += 32) // loop
  tile[k] = x[k]; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = tile[t];

//: tree_without_its_guard out-of-bounds space=threadgroup buffer=s index=64
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
threadgroup float* p = s;
float v = p[t + 32]; // FAULT
out[i] = v;

//: threadgroup_negative out-of-bounds space=threadgroup
threadgroup float s[64];
threadgroup float* p = &s[0];
p[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = p[int(t) - 1]; // FAULT

//: threadgroup_array_of_structs out-of-bounds threads=9 group=9 size=9 out_size=9
struct Pair { float a, b; };
//: kernel
threadgroup Pair s[8];
s[t].b = x[i]; // FAULT
out[i] = x[i];

//: simdgroup_index_past_partials out-of-bounds threads=96 group=96 size=96 out_size=96
threadgroup float partial[2];
if (thread_index_in_simdgroup == 0)
  partial[simdgroup_index_in_threadgroup] = x[i]; // FAULT
out[i] = 0;

//: thread_array_by_name out-of-bounds
float v[4];
for (int k = 0; k <= int(t / 16) + 1; ++k) v[k] = x[k]; // FAULT
out[i] = v[0];

//: thread_array_by_pointer out-of-bounds space=thread buffer=v index=4
float v[4] = {1, 2, 3, 4};
thread float* p = v;
p += t % 5;
out[i] = *p; // FAULT

//: thread_array_in_a_helper out-of-bounds space=thread buffer=v index=8
void fill(thread float* p, uint n) {
  for (uint k = 0; k <= n; ++k) p[k] = k;
}
//: kernel
float v[8];
fill(v, t);
out[i] = v[0];

//: constant_table_in_a_helper out-of-bounds space=constant buffer=TABLE index=16
constant float TABLE[16] = {0, 1, 2, 3};
float pick(constant float* table, uint k) { return table[k]; }
//: kernel
out[i] = pick(TABLE, t);

//: two_dimensional_thread_array out-of-bounds
float m[2][3] = {{1, 2, 3}, {4, 5, 6}};
out[i] = m[t % 2][t % 4]; // FAULT

//: output_of_another_size out-of-bounds out_size=100
out[2 * i] = x[i]; // FAULT

//: component_by_a_variable out-of-bounds
float4 v = float4(x[i]);
out[i] = v[t % 5]; // FAULT

//: matrix_tile_past_the_end out-of-bounds threads=32 group=32 buffer=x
simdgroup_float8x8 m;
simdgroup_load(m, x + 8, 8); // FAULT
simdgroup_store(m, out, 8);

//: matrix_store_past_the_end out-of-bounds threads=32 group=32 buffer=out
simdgroup_float8x8 m = make_filled_simdgroup_matrix<float, 8, 8>(1.0f);
simdgroup_store(m, out, 9); // FAULT

//: atomic_past_the_end out-of-bounds buffer=out index=64
device atomic_uint* counts = (device atomic_uint*)out;
atomic_fetch_add_explicit(&counts[t + 1], 1u, memory_order_relaxed); // FAULT

//: halves_of_a_float_buffer out-of-bounds
device const half* h = (device const half*)x;
out[i] = h[2 * i + 2]; // FAULT
