// combine:value_dim=80,dtype=float16,heads=32,batch=1,context=4096
// parts=4
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int VALUE_DIM = 80;
constexpr constant int PARTS = 4;  // of the splits, added up side by side
constexpr constant int THREADS = 320;
constexpr constant int SIMDGROUPS = 10;
constexpr constant int MAX_SPLITS = 512;
constexpr constant int M = 20;
constexpr constant int POWER = 4;

// Rows of the transposed Hadamard matrix of order M: the inverse rotation.
constant uint HADAMARD_ROWS[20] = {
    0x0083cc9u, 0x0045c74u, 0x0026e2au, 0x0017705u, 0x000f992u, 0x00842c6u, 0x0042163u, 0x00212b1u,
    0x0010b58u, 0x00085acu, 0x00ca610u, 0x00e5108u, 0x0072884u, 0x0039442u, 0x009c821u, 0x00b65f0u,
    0x005f2e8u, 0x00abb64u, 0x00d1fa2u, 0x006cfc1u
};

// The Hadamard matrix of order M over M numbers that stand `stride` apart. Row a of the matrix is a
// bit mask, bit M - 1 - b set where entry (a, b) is +1.
template <int M, typename Vector, typename Rows>
inline void hadamard_order(Vector x, int first, int stride, Rows rows) {
  float column[M];
  for (int b = 0; b < M; ++b) {
    column[b] = x[first + b * stride];
  }
  for (int a = 0; a < M; ++a) {
    float sum = 0.0f;
    for (int b = 0; b < M; ++b) {
      sum += (rows[a] >> (M - 1 - b) & 1u) ? column[b] : -column[b];
    }
    x[first + a * stride] = sum;
  }
}

// One butterfly: pair `pair` of those that are 2^stage numbers apart.
template <typename Vector>
inline void hadamard_pair(Vector x, int pair, int stage) {
  const int distance = 1 << stage;
  const int i = ((pair >> stage) << (stage + 1)) + (pair & (distance - 1));
  const float a = x[i];
  const float b = x[i + distance];
  x[i] = a + b;
  x[i + distance] = a - b;
}

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
[[kernel]] void custom_kernel_tqgen_combine_dv80_f16_parts4_936784fe73_float_float_float_int32_t_float16_t(
  const device float* partials [[buffer(0)]],
  const device float* statistics [[buffer(1)]],
  const device float* signs [[buffer(2)]],
  const device int32_t* params [[buffer(3)]],
  device float16_t* out [[buffer(4)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One threadgroup an output row: merge the splits, un-rotate their sum, add the exact window, divide.
// params: [6] splits
threadgroup float y[THREADS];
threadgroup float weights[MAX_SPLITS + 1];
threadgroup float maxima[SIMDGROUPS];
threadgroup float sums[SIMDGROUPS];
const uint dim = thread_position_in_threadgroup.x;
const uint part = thread_position_in_threadgroup.y;
const uint self = part * VALUE_DIM + dim;
const uint row = threadgroup_position_in_grid.y;
const uint splits = params[6];
const uint first = row * (splits + 1);

// Asked for early: it is needed last.
const float window = partials[(first + splits) * VALUE_DIM + dim];
const float sign = signs[dim];

// The weight of each split, by all threads.
float largest = -INFINITY;
for (uint split = self; split <= splits; split += THREADS) {
  largest = max(largest, statistics[(first + split) * 2]);
}
largest = simd_max(largest);
if (thread_index_in_simdgroup == 0) {
  maxima[simdgroup_index_in_threadgroup] = largest;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int group = 0; group < SIMDGROUPS; ++group) {
  largest = max(largest, maxima[group]);
}
float total = 0.0f;
for (uint split = self; split <= splits; split += THREADS) {
  const float m = statistics[(first + split) * 2];
  const float weight = m == -INFINITY ? 0.0f : exp2(m - largest);
  weights[split] = weight;
  total += weight * statistics[(first + split) * 2 + 1];
}
total = simd_sum(total);
if (thread_index_in_simdgroup == 0) {
  sums[simdgroup_index_in_threadgroup] = total;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

// A thread a coordinate and part: independent loads, so that many are under way at once.
float rotated = 0.0f;
#pragma unroll 8
for (uint split = part; split < splits; split += PARTS) {
  rotated += weights[split] * partials[(first + split) * VALUE_DIM + dim];
}
y[self] = rotated;
threadgroup_barrier(mem_flags::mem_threadgroup);
if (part == 0) {
  for (int other = 1; other < PARTS; ++other) {
    rotated += y[other * VALUE_DIM + dim];
  }
  y[dim] = rotated;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
hadamard_threadgroup<M, POWER>(y, 1, HADAMARD_ROWS, self, THREADS);
if (part == 0) {
  total = 0.0f;
  for (int group = 0; group < SIMDGROUPS; ++group) {
    total += sums[group];
  }
  const float value = y[dim] * rsqrt(float(VALUE_DIM)) * sign + weights[splits] * window;
  out[row * VALUE_DIM + dim] = half(value / total);
}

}
