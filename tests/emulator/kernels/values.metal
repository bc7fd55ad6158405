// Values that an operation cannot take, and other limits.

//: divisor_from_a_buffer division-by-zero
out[i] = 100 / int(x[i]); // FAULT

//: modulo_in_a_helper division-by-zero
uint wrap(uint i, uint n) { return i % n; }
//: kernel
out[i] = wrap(i, uint(x[0]));

//: vector_of_divisors division-by-zero
int2 v = int2(7) / int2(1, int(x[i])); // FAULT
out[i] = v.x + v.y;

//: least_by_minus_one division-by-zero
int k = -2147483647 - 1 + int(x[0]);
out[i] = k / (int(x[0]) - 1); // FAULT

//: shift_by_the_width shift-out-of-range index=32
uint mask = (1u << (t % 33)) - 1; // FAULT
out[i] = mask;

//: shift_by_a_negative shift-out-of-range index=-1
out[i] = 1024 >> (int(t) - 1); // FAULT

//: wide_shift_of_a_narrow_one shift-out-of-range
ulong v = ulong(1u << (32 + t % 2)); // FAULT
out[i] = float(v);

//: unpacking_shift_in_a_template shift-out-of-range
template <int B> uint code(uint w, uint k) { return (w >> (B * k)) & 31u; }
//: kernel
out[i] = code<5>(7u, t);

//: compound_shift shift-out-of-range index=32
uint w = 1;
w <<= t; // FAULT
out[i] = w;

//: float_too_large float-to-int-range
int v = int(x[i] * 1e9f); // FAULT
out[i] = v;

//: nan_to_int float-to-int-range
uint v = uint(x[i] / x[0]); // FAULT
out[i] = v;

//: float_to_a_byte float-to-int-range
uchar v = uchar(x[i] * 10); // FAULT
out[i] = v;

//: negative_vector_to_unsigned float-to-int-range
uint4 v = uint4(float4(x[i]) - 5); // FAULT
out[i] = v.x;

//: vector_at_an_odd_element misaligned size=66
float2 v = *(device const float2*)(x + i); // FAULT
out[i] = v.x;

//: vector_of_halves misaligned
threadgroup half s[72];
s[t] = half(x[i]);
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = float((*(threadgroup half4*)(s + t % 2)).x); // FAULT

//: words_of_bytes misaligned
uint v = *(device const uint*)((device const uchar*)x + i); // FAULT
out[i] = v;

//: input_through_a_cast write-to-input space=device buffer=x
((device float*)x)[i] = 0; // FAULT
out[i] = 0;

//: too_much_in_two_arrays threadgroup-memory
threadgroup float a[64 * 65];
threadgroup float b[64 * 64]; // FAULT
a[t] = b[t] = x[i];
out[i] = a[t];

//: half_the_output_is_left unwritten-output soft=True init=None
if (i % 2) out[i] = x[i];

//: vector_divided_by_a_zero division-by-zero
int4 d = int4(int(x[i]), 1, 2, 3);
int4 q = int4(8) / d; // FAULT
out[i] = q.x;

//: vector_modulo_a_zero division-by-zero
uint2 d = uint2(1, uint(x[i]));
uint2 q = uint2(8) % d; // FAULT
out[i] = q.x;
