// One kernel for each way in which a detector finds its kind of fault.

//: read_past_the_end out-of-bounds fast=True space=device buffer=x index=64
float v = 0;
v = x[i + 1]; // FAULT
out[i] = v;

//: write_past_the_end out-of-bounds fast=True space=device buffer=out index=64
out[i + 1] = x[i]; // FAULT

//: negative_index out-of-bounds space=device buffer=x index=-5
int back = int(i) - 5;
out[i] = x[back]; // FAULT

//: far_index out-of-bounds fast=True space=device buffer=x index=1000000
out[i] = x[i * 1000000u]; // FAULT

//: threadgroup_past_the_end out-of-bounds space=threadgroup buffer=s index=64
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
threadgroup float* p = s;
out[i] = p[t + 1]; // FAULT

//: threadgroup_row_past_the_end out-of-bounds space=threadgroup buffer=s index=16
threadgroup float s[2][16];
if (t < 2) s[0][t + 15] = x[i]; // FAULT
out[i] = x[i];

//: constant_past_the_end out-of-bounds space=constant index=4
constant float TABLE[4] = {1, 2, 3, 4};
//: kernel
out[i] = TABLE[i]; // FAULT

//: component_past_the_end out-of-bounds space=thread index=4
float4 v = float4(x[i]);
out[i] = v[t]; // FAULT

//: atomic_past_the_end out-of-bounds fast=True space=device buffer=out index=64
device atomic_float* sums = (device atomic_float*)out;
atomic_fetch_add_explicit(sums + i + 1, x[i], memory_order_relaxed); // FAULT

//: matrix_past_the_end out-of-bounds threads=32 group=32 fast=True space=device buffer=x index=64
simdgroup_float8x8 m;
simdgroup_load(m, x + 8); // FAULT
simdgroup_store(m, out);

//: packed_vector_past_the_end out-of-bounds space=device buffer=out index=64
device packed_float3* p = (device packed_float3*)out;
p[t] = float3(x[i]); // FAULT

//: local_past_the_end out-of-bounds space=thread index=4
float v[4] = {0, 1, 2, 3};
uint n = uint(x[i]);
out[i] = v[n]; // FAULT

//: missing_barrier race space=threadgroup buffer=s
threadgroup float s[64];
s[t] = x[i]; // ALSO
out[i] = s[(t + 63) % 64]; // FAULT

//: missing_second_barrier race space=threadgroup buffer=s
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
float v = s[63 - t]; // ALSO
s[t] = v; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t];

//: barrier_missing_in_a_tree race space=threadgroup buffer=s
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint k = 32; k > 0; k >>= 1) {
    if (t < k) s[t] += s[t + k]; // FAULT
}
out[i] = s[0]; // ALSO

//: neighbouring_halves race space=threadgroup buffer=s
threadgroup half s[64];
s[t] = half(x[i]); // ALSO
out[i] = s[t ^ 1]; // FAULT

//: all_write_one race space=threadgroup buffer=s index=0
threadgroup float s[1];
s[0] = x[i]; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];

//: neighbours_write_the_same_but_not_all race space=threadgroup buffer=s index=0
threadgroup float s[1];
s[0] = float(t / 2); // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];

//: groups_write_one race threads=128 size=128 out_size=1 space=device buffer=out index=0
if (t == 0) out[0] = x[i]; // FAULT

//: groups_read_each_other race threads=128 size=128 out_size=256 space=device buffer=out
out[i] = x[i]; // ALSO
threadgroup_barrier(mem_flags::mem_device);
out[i + 128] = out[(i + 64) % 128]; // FAULT

//: counter_without_atomic race out_size=1 space=device buffer=out index=0
out[0] += x[i]; // FAULT

//: atomic_and_plain race out_size=2 space=device buffer=out index=0
device atomic_float* sum = (device atomic_float*)out;
atomic_fetch_add_explicit(sum, x[i], memory_order_relaxed); // FAULT
float v = out[0]; // ALSO
if (v < 0) out[1] = v;

//: wrong_mem_flag race soft=True space=threadgroup buffer=s
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_device);
out[i] = s[(t + 1) % 64]; // FAULT

//: no_mem_flag race soft=True space=threadgroup
threadgroup float s[64];
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_none);
out[i] = s[(t + 1) % 64]; // FAULT

//: lockstep race soft=True space=threadgroup
threadgroup float s[64];
s[t] = simd_sum(x[i]) + lane;
simd_max(s[t]);
out[i] = s[t ^ 1]; // FAULT

//: simdgroup_barrier_is_too_weak race space=threadgroup order=descending
threadgroup float s[64];
s[t] = x[i]; // ALSO
simdgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[63 - t]; // FAULT

//: same_value race soft=True space=threadgroup
threadgroup float s[1];
s[0] = 3.0f; // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[0];

//: threadgroup_not_written uninitialised-read space=threadgroup buffer=s index=32
threadgroup float s[64];
if (t < 32) s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t]; // FAULT

//: output_not_initialised uninitialised-read init=None space=device buffer=out index=0
out[i] += x[i]; // FAULT

//: array_of_the_thread_not_written uninitialised-read space=thread buffer=sums
float sums[8];
for (uint k = 1; k < 8; ++k) sums[k] = x[i];
out[i] = sums[t % 8]; // FAULT

//: sum_without_a_start uninitialised-read space=thread buffer=total
half total;
for (uint k = 0; k < 4; ++k) {
    total += half(x[k]); // FAULT
}
out[i] = total; // ALSO

//: output_not_written unwritten-output soft=True init=None space=device buffer=out index=60
if (t < 60) out[i] = x[i];

//: barrier_in_branch barrier-divergence fast=True
threadgroup float s[64];
s[t] = x[i];
if (t < 40) {
    threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
}
out[i] = s[t];

//: return_before_barrier barrier-divergence fast=True
threadgroup float s[64];
if (t == 63) return;
s[t] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = s[t];

//: barrier_in_a_loop_of_different_length barrier-divergence fast=True
for (uint k = 0; k < t % 3; ++k) {
    threadgroup_barrier(mem_flags::mem_device); // FAULT
}
out[i] = x[i];

//: different_barriers barrier-divergence fast=True
if (t < 32) {
    threadgroup_barrier(mem_flags::mem_device); // FAULT
    out[i] = x[i];
} else {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = -x[i];
}

//: simdgroup_barrier_in_branch barrier-divergence
if (lane < 7) simdgroup_barrier(mem_flags::mem_threadgroup); // FAULT
out[i] = x[i];

//: shuffle_from_inactive inactive-lane fast=True
float v = x[i];
if (lane < 16) v = simd_shuffle_xor(v, 16); // FAULT
out[i] = v;

//: broadcast_from_inactive inactive-lane fast=True
float v = x[i];
if (lane > 3) v = simd_broadcast(v, 0); // FAULT
out[i] = v;

//: sum_in_branch simd-divergence soft=True
float v = x[i];
if (lane < 16) v = simd_sum(v); // FAULT
out[i] = v;

//: misaligned_vector misaligned
device const float4* p = (device const float4*)(x + (i & 1));
out[i] = p[0].x; // FAULT

//: division_by_zero division-by-zero fast=True
int n = int(x[i]) - 3;
out[i] = float(100 / n); // FAULT

//: modulo_zero division-by-zero fast=True
uint n = i & 7u;
out[i] = float(100u % n); // FAULT

//: shift_by_32 shift-out-of-range index=32
uint n = i + 1;
out[i] = float(1u << n); // FAULT

//: shift_right_too_far shift-out-of-range index=32
uint v = 77u;
v >>= (i & 32u); // FAULT
out[i] = float(v);

//: float_too_large_for_int float-to-int-range
float big = x[i] * 1e9f;
out[i] = float(int(big)); // FAULT

//: vector_of_floats_too_large float-to-int-range
float4 v = float4(x[i]) * 3e8f;
int4 n = int4(v); // FAULT
out[i] = float(n.x);

//: negative_to_unsigned float-to-int-range
float v = x[i] - 3.0f;
out[i] = float(uint(v)); // FAULT

//: endless_loop hang fast=True
uint n = i;
while (n < 1000u) n = n ^ (uint(x[i]) & 0u); // FAULT
out[i] = n;

//: too_much_threadgroup_memory threadgroup-memory fast=True
threadgroup float a[4096];
threadgroup float b[4097]; // FAULT
a[t] = b[t] = x[i];
out[i] = a[t] + b[t];

//: write_to_input write-to-input space=device buffer=x
device float* p = (device float*)x;
p[i] = 2.0f; // FAULT
out[i] = p[i];

//: wild_pointer wild-pointer fast=True
device float* p = nullptr;
if (x[i] > 3) p = out;
p[i] = 2.0f; // FAULT
