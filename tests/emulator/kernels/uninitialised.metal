// Reads before a write.

//: int_set_in_a_branch uninitialised-read space=thread buffer=k
int k;
if (t < 32) k = 1;
out[i] = x[i] + k; // FAULT

//: counter_without_a_start uninitialised-read buffer=n
uint n;
for (uint k = 0; k < t; ++k) n += k; // FAULT
out[i] = n; // ALSO

//: component_of_a_vector uninitialised-read buffer=v
float3 v;
v.xy = float2(x[i]);
out[i] = v.z; // FAULT

//: vector_of_which_a_component_is_missing uninitialised-read
float4 v;
v.x = x[i];
v.y = v.z = 1;
float4 w = v * 2; // FAULT
out[i] = w.x;

//: int_vector uninitialised-read buffer=v
uint2 v;
if (x[i] < 0) v = uint2(1);
out[i] = v.x; // FAULT

//: byte_of_an_array uninitialised-read buffer=q
uchar q[4];
q[0] = q[1] = q[2] = 1;
out[i] = q[t % 4]; // FAULT

//: flag uninitialised-read buffer=found
bool found;
for (int k = 0; k < 2; ++k) if (x[k] > 5) found = true;
out[i] = found ? 1 : 0; // FAULT

//: half_accumulator_in_a_template uninitialised-read
template <typename T> T total(device const float* x, uint i) {
  T sum;
  for (int k = 0; k < 2; ++k) sum += T(x[i]);
  return sum;
}
//: kernel
out[i] = total<half>(x, i);

//: field_of_a_struct uninitialised-read buffer=s
struct State { float best; int where; };
//: kernel
State s;
s.best = x[i];
if (x[i] > 70) s.where = i;
out[i] = s.where; // FAULT

//: array_handed_to_a_helper uninitialised-read
int total(thread const int* v) {
  int s = 0;
  for (int k = 0; k < 4; ++k) s += v[k];
  return s;
}
//: kernel
int v[4];
v[0] = 1;
out[i] = total(v);

//: reference_that_is_not_set uninitialised-read buffer=k
void find(float v, thread int& k) {
  if (v > 100) k = 1;
}
//: kernel
int k;
find(x[i], k);
out[i] = k; // FAULT

//: accumulating_matrix uninitialised-read threads=32 group=32
simdgroup_float8x8 a = make_filled_simdgroup_matrix<float, 8, 8>(1.0f), sum;
simdgroup_multiply_accumulate(sum, a, a, sum); // FAULT
simdgroup_store(sum, out, 8);

//: index_that_is_not_set uninitialised-read buffer=k
uint k;
if (t == 99) k = 0;
out[i] = x[k % 64]; // FAULT

//: threadgroup_halo uninitialised-read space=threadgroup buffer=s
threadgroup float s[66];
s[t + 1] = x[i];
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[t] + s[t + 2]; // FAULT

//: threadgroup_atomic_without_a_start uninitialised-read
threadgroup atomic_uint count;
atomic_fetch_add_explicit(&count, 1u, memory_order_relaxed); // FAULT
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = atomic_load_explicit(&count, memory_order_relaxed);

//: adds_to_the_output uninitialised-read init=None
out[i] += x[i]; // FAULT

//: switch_without_a_default uninitialised-read buffer=k
short k;
switch (t % 3) { case 0: k = 1; break; case 1: k = 2; break; }
out[i] = k; // FAULT

//: pointer_that_is_not_set uninitialised-read buffer=p
device const float* p;
if (t < 10) p = x;
out[i] = p[0]; // FAULT

//: copied_before_it_is_used uninitialised-read
int k;
if (t == 99) k = 1;
int m = k;
int n = t % 2 ? m : k;
out[i] = n; // FAULT

//: handed_on_in_threadgroup_memory uninitialised-read soft=True space=threadgroup buffer=s
threadgroup int s[64];
int k;
if (t < 32) k = 1;
s[t] = k;
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = s[63 - t]; // FAULT

//: stored_as_it_is uninitialised-read buffer=v
float v;
if (t == 99) v = 1;
out[i] = v; // FAULT
