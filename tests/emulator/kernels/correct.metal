// Correct kernels that come close to a fault.

//: ragged_group_with_a_guard correct size=60 out_size=60
if (i < 60) out[i] = x[i];

//: ragged_group_of_odd_size correct threads=61 size=61 out_size=61
out[i] = x[i];

//: clamped_stencil correct
out[i] = x[max(int(i) - 1, 0)] + x[min(i + 1, 63u)];

//: one_past_the_end_is_only_pointed_at correct
device const float* end = x + 64;
out[i] = *(end - 1 - i);

//: negative_offset_from_a_moved_pointer correct
device const float* p = x + 32;
out[i] = p[int(i) - 32];

//: last_vector_of_an_odd_buffer correct size=62
if (4 * i + 3 < 62) out[i] = ((device const float4*)x)[i].w;
else out[i] = 0;

//: short_circuit_guards_the_read correct
out[i] = i < 63 && x[i + 1] > 3 ? 1 : 0;

//: conditional_guards_the_read correct
out[i] = i + 1 < 64 ? x[i + 1] : 0;

//: row_pointer_walks_over_two_rows correct
threadgroup float s[2][32];
threadgroup float* p = s[0];
p[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t / 32][t % 32];

//: thread_array_by_pointer_to_its_end correct
float v[4] = {1, 2, 3, 4};
float sum = 0;
for (thread float* p = v; p != v + 4; ++p) sum += *p;
out[i] = sum;

//: pointer_to_one_of_two_arrays correct
float a[2] = {1, 2}, b[3] = {3, 4, 5};
thread float* p = t % 2 ? a : b;
out[i] = p[1];

//: array_in_a_struct_by_reference correct
struct Ring { float v[4]; int at; };
void push(thread Ring& r, float v) { r.v[r.at++ % 4] = v; }
//: kernel
Ring r;
r.at = 0;
for (int k = 0; k < 9; ++k) push(r, k);
out[i] = r.v[0] + r.v[3];

//: table_by_pointer correct
constant float TABLE[16] = {0, 1, 2, 3};
float pick(constant float* table, uint k) { return table[k]; }
//: kernel
out[i] = pick(TABLE + t % 4, t % 13);

//: float3_array correct
float3 v[4];
for (int k = 0; k < 4; ++k) v[k] = float3(x[i]);
float s = 0;
for (int k = 0; k < 4; ++k) s += v[k].z;
out[i] = s;

//: struct_of_float3 correct
struct Ray { float3 at; float3 to; };
//: kernel
Ray r[2];
r[t % 2].at = float3(1);
r[t % 2].to = float3(x[i]);
out[i] = dot(r[t % 2].at, r[t % 2].to);

//: read_own_element correct
threadgroup float s[64];
s[t] = x[i];
out[i] = s[t];

//: tree_reduction correct
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint n = 32; n > 0; n /= 2) {
  if (t < n) s[t] += s[t + n];
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[i] = s[0];

//: barrier_in_a_uniform_branch correct
threadgroup float s[64];
s[t] = x[i];
if (x[0] == 0) {
threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[i] = s[63 - t];

//: barrier_in_a_uniform_loop correct
threadgroup float s[64];
float v = x[i];
for (int k = 0; k < int(x[5]); ++k) {
s[t] = v;
threadgroup_barrier(mem_flags::mem_threadgroup);
v = s[63 - t];
threadgroup_barrier(mem_flags::mem_threadgroup);
}
out[i] = v;

//: two_buffers_need_one_barrier correct
threadgroup float s[2][64];
float v = x[i];
for (int k = 0; k < 5; ++k) {
  s[k % 2][t] = v;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  v += s[k % 2][63 - t];
}
out[i] = v;

//: early_return_of_a_whole_group correct threads=128 init=0
if (threadgroup_position_in_grid.x == 1) return;
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = x[i];

//: one_lane_initialises correct
threadgroup float sum;
if (t == 0) sum = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = sum + x[i];

//: device_memory_with_its_flag correct
out[i] = x[i];
threadgroup_barrier(mem_flags::mem_device);
float v = out[i ^ 1];
threadgroup_barrier(mem_flags::mem_device);
out[i] = v;

//: both_flags_at_once correct
threadgroup float s[64];
s[t] = out[i] = x[i];
threadgroup_barrier(mem_flags::mem_device | mem_flags::mem_threadgroup);
out[i] = s[63 - t];

//: simdgroup_barrier_within_a_simdgroup correct
threadgroup float s[64];
s[t] = x[i];
simdgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t ^ 1];

//: bytes_side_by_side correct
threadgroup uchar b[64];
b[t] = uchar(t);
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = b[63 - t];

//: halves_side_by_side correct
threadgroup half h[64];
threadgroup half2* pairs = (threadgroup half2*)h;
h[t] = half(x[i]);
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = float(pairs[31 - t / 2].x);

//: atomic_counter correct
threadgroup atomic_uint count;
if (t == 0) atomic_store_explicit(&count, 0u, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
uint mine = atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed);
out[mine] = x[mine];

//: atomics_across_groups correct threads=256 size=256 out_size=4 init=0
atomic_fetch_add_explicit((device atomic_float*)out + i % 4, x[i], memory_order_relaxed);

//: compare_and_exchange correct threads=256 out_size=1 init=0
device atomic_uint* most = (device atomic_uint*)out;
uint seen = atomic_load_explicit(most, memory_order_relaxed);
while (seen < i &&
       !atomic_compare_exchange_weak_explicit(most, &seen, i, memory_order_relaxed,
                                              memory_order_relaxed)) {
}

//: last_group_done correct threads=128 size=128 out_size=130 init=0
threadgroup bool last;
out[1 + i] = x[i];
threadgroup_barrier(mem_flags::mem_device);
if (t == 0) {
  uint done = atomic_fetch_add_explicit((device atomic_uint*)out, 1u, memory_order_relaxed);
  last = done == threadgroups_per_grid.x - 1;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (last && t == 0) out[129] = 1;

//: groups_write_their_own correct threads=256 size=256 out_size=4
if (t == 0) out[threadgroup_position_in_grid.x] = x[i];

//: matrix_product_through_threadgroup_memory correct threads=32 group=32
threadgroup float tile[64];
simdgroup_float8x8 a, b, c = make_filled_simdgroup_matrix<float, 8, 8>(0);
simdgroup_load(a, x);
simdgroup_load(b, x, 8, ulong2(0, 0), true);
simdgroup_multiply_accumulate(c, a, b, c);
simdgroup_store(c, tile);
simdgroup_barrier(mem_flags::mem_threadgroup);
out[i] = tile[i];
out[i + 32] = tile[i + 32];

//: matrix_elements_set_by_hand correct threads=32 group=32
simdgroup_float8x8 m;
m.thread_elements()[0] = 1;
m.thread_elements()[1] = 2;
simdgroup_store(m, out);

//: set_in_both_branches correct
int k;
if (t < 32) k = 1; else k = 2;
out[i] = k;

//: set_in_every_case correct
int k;
switch (t % 3) { case 0: k = 1; break; case 1: k = 2; break; default: k = 3; }
out[i] = k;

//: set_in_a_loop_that_runs correct
float last;
for (uint k = 0; k <= t; ++k) last = x[k];
out[i] = last;

//: set_by_reference correct
void find(float v, thread int& k, thread float& m) { k = int(v); m = v; }
//: kernel
int k;
float m;
find(x[i], k, m);
out[i] = k + m;

//: set_by_the_library correct
int e;
float c, w;
float s = sincos(x[i], c) + frexp(x[i] + 1, e) + modf(x[i], w);
out[i] = s + c + e + w;

//: components_one_by_one correct
float4 v;
v.x = 1;
v.w = x[i];
v.yz = float2(2, 3);
out[i] = dot(v, v);

//: components_by_a_variable correct
float4 v;
for (int k = 0; k < 4; ++k) v[k] = x[k];
out[i] = v.y + dot(v, v);

//: unused_components correct
float3 v;
v.xy = float2(x[i]);
out[i] = v.x + v.y;

//: struct_copied_before_it_is_complete correct
struct State { float best; int where; long more; };
float value(State s) { return s.best; }
//: kernel
State s;
s.best = x[i];
State r = s;
r.where = 3;
out[i] = value(s) + r.where;

//: array_of_which_a_part_is_used correct
float v[8];
for (uint k = 0; k < 1 + t % 4; ++k) v[k] = x[k];
float s = 0;
for (uint k = 0; k < 1 + t % 4; ++k) s += v[k];
out[i] = s;

//: array_set_by_a_helper correct
void fill(thread int* v) { for (int k = 0; k < 4; ++k) v[k] = k; }
//: kernel
int v[4];
fill(v);
out[i] = v[t % 4];

//: array_set_through_a_vector correct
float v[4];
*(thread packed_float4*)v = packed_float4(1, 2, 3, 4);
out[i] = v[t % 4];

//: bits_of_a_union correct
union { uint u; float f; } v;
v.f = x[i];
out[i] = v.u >> 31;

//: all_bits_set correct
uint u = 0xFFFFFFFFu;
int m[2] = {-1, -1};
float f = as_type<float>(u);
out[i] = isnan(f) && m[t % 2] == -1 && u == ~0u ? 1 : 0;

//: the_pattern_itself correct
uint u = 0xAAAAAAAAu;
float2 v = as_type<float2>(uint2(u, u));
out[i] = popcount(u) + (v.x < 0);

//: lambda_by_reference correct
float sum;
auto add = [&](float v) { sum = v; };
add(x[i]);
out[i] = sum;

//: template_member correct
template <int N> struct Best {
  float v[N];
  int n[N];
  void add(float w, int k) thread { v[k] = w; n[k] = k; }
};
//: kernel
Best<2> b;
b.add(x[i], 1);
b.add(x[i] + 1, 0);
out[i] = b.v[0] + b.n[1];

//: loop_variable_declared_inside correct
float s = 0;
for (int k = 0; k < 3; ++k) {
  float v;
  v = x[k];
  s += v;
}
out[i] = s;

//: every_second_output correct init=0
if (i % 2) out[i] = x[i];

//: shuffle_within_the_active_lanes correct
float v = 0;
if (t % 32 < 16) v = x[i];
out[i] = simd_shuffle_down(v, 16);

//: uniform_branch_with_a_sum correct
out[i] = x[0] == 0 ? simd_sum(x[i]) : 0;

//: whole_simdgroups_leave correct
float v = 0;
if (simdgroup_index_in_threadgroup == 0) v = simd_sum(x[i]);
out[i] = v;

//: short_simdgroup correct threads=40 group=40 size=40 out_size=40
out[i] = simd_sum(x[i]);

//: divisor_is_guarded correct
int d = int(x[i]);
out[i] = d != 0 ? 100 / d : 0;

//: shift_by_31 correct
out[i] = float((1u << (t % 32)) & (0x80000000u >> (31 - t % 32)));

//: wide_shift correct
out[i] = float((1ul << (t % 64)) >> (t % 64));

//: double_shift_for_32 correct
uint n = t % 33;
out[i] = float((2u << (n ? n - 1 : 0)) & 0xFFFFu);

//: float_at_the_edge_of_int correct
out[i] = float(int(2147483520.0f) + int(-2147483648.0f)) + uint(4294967040.0f);

//: truncation_below_zero correct
out[i] = float(uint(-0.75f + x[0]));

//: vector_at_an_aligned_element correct
out[i] = (*(device const float2*)(x + 2 * (i / 2))).x;

//: packed_vector_anywhere correct size=66
out[i] = float3(*(device const packed_float3*)(x + i)).z;

//: exactly_32_KiB correct
threadgroup float s[8192];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[8191 - 8191 + t];

//: arrays_in_separate_scopes correct
float v;
{ threadgroup float s[64]; s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
v = s[63 - t]; }
out[i] = v;

//: long_loop correct
float s = 0;
for (int k = 0; k < 20000; ++k) s += float(k % 3);
out[i] = s;

//: unsigned_countdown correct
float s = 0;
for (uint k = 4; k-- > 0;) s += x[k];
out[i] = s;

//: best_three_of_which_some_are_unset correct
float best[3] = {-1, -1, -1};
int where[3];
for (int k = 0; k < 2; ++k) {
  int at = 0;
  while (at < 3 && best[at] > x[k]) ++at;
  for (int j = 2; j > at; --j) {
    best[j] = best[j - 1];
    where[j] = where[j - 1];
  }
  best[at] = x[k];
  where[at] = k;
}
threadgroup int all[64 * 3];
for (int k = 0; k < 3; ++k) all[3 * t + k] = where[k];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = best[0] + all[3 * (63 - t)] + (best[2] < 0 ? -1 : where[2]);

//: conditional_copy correct
int k;
bool known = x[i] > 20;
if (known) k = 7;
int m = known ? k : 0;
int n = k;
out[i] = known ? m + n : 0;

//: sum_by_atomics_is_read_behind_a_barrier correct
threadgroup atomic_float sum;
if (t == 0) atomic_store_explicit(&sum, 0.0f, memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
atomic_fetch_add_explicit(&sum, x[i], memory_order_relaxed);
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = *(threadgroup float*)&sum + atomic_load_explicit(&sum, memory_order_relaxed);

//: vectors_divided_by_what_is_not_zero correct
int3 q = int3(100, 200, 300) / int3(1, int(x[i]) + 1, 2) % int3(7);
out[i] = q.x + q.y + q.z;
