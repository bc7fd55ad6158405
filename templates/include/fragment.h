// The 8x8 matrix unit by fragments: what one lane holds of an 8x8 matrix, two elements of a row.
// A device whose lanes hold others, or with a wider unit, defines all of this itself.
#ifndef FRAGMENT_ROW
#define FRAGMENT_ROW(lane) (((lane) >> 2 & 4) | ((lane) >> 1 & 3))
// Elements 2 * pair and 2 * pair + 1 of the row.
#define FRAGMENT_PAIR(lane) (((lane) >> 2 & 2) | ((lane)&1))
// Steps 0, 1, 2: distances of an exclusive or that walks the lanes with the same columns.
#define FRAGMENT_STEP(i) ((i) == 2 ? 16 : 2 << (i))

// (x & mask) | bits: one operation on some devices.
inline uint and_or(uint x, uint mask, uint bits) {
  return (x & mask) | bits;
}

// What a right operand has to be turned into, once.
inline half2 right_operand(half2 b) {
  return b;
}

inline void multiply_fragment(thread float2& sum, half2 a, half2 b) {
  simdgroup_matrix<half, 8, 8> left;
  simdgroup_matrix<half, 8, 8> right;
  simdgroup_matrix<float, 8, 8> out;
  left.thread_elements()[0] = a[0];
  left.thread_elements()[1] = a[1];
  right.thread_elements()[0] = b[0];
  right.thread_elements()[1] = b[1];
  out.thread_elements()[0] = sum[0];
  out.thread_elements()[1] = sum[1];
  simdgroup_multiply_accumulate(out, left, right, out);
  sum = float2(out.thread_elements()[0], out.thread_elements()[1]);
}

// (upper; lower) += (a00 a01; a10 a11) (b0; b1): 16 x 16 by 16 x 8.
inline void multiply_block(
    thread float2& upper, thread float2& lower, half2 a00, half2 a01, half2 a10, half2 a11,
    half2 b0, half2 b1) {
  multiply_fragment(upper, a00, b0);
  multiply_fragment(lower, a10, b0);
  multiply_fragment(upper, a01, b1);
  multiply_fragment(lower, a11, b1);
}
#endif
