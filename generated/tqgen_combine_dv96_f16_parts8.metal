// combine:value_dim=96,dtype=float16,heads=32,batch=1,context=4096
// parts=8
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int VALUE_DIM = 96;
constexpr constant int PER_LANE = 3;  // coordinates
constexpr constant int PARTS = 8;  // of the splits, added up side by side
constexpr constant int HELD = 8;  // splits that a SIMD group asks for at once
constexpr constant int M = 12;
constexpr constant int POWER = 8;

// Rows of the transposed Hadamard matrix of order M: the inverse rotation.
constant uint HADAMARD_ROWS[12] = {
    0x0000bffu, 0x00002aau, 0x0000ec3u, 0x0000896u, 0x0000fb0u, 0x0000a25u, 0x0000cecu, 0x0000989u,
    0x0000c3bu, 0x0000962u, 0x0000f0eu, 0x0000a58u
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

inline float weight_of(float m, float largest) {
  return m == -INFINITY ? 0.0f : fast::exp2(m - largest);
}
[[kernel]] void custom_kernel_tqgen_combine_dv96_f16_parts8_15de599dc2_float_float_float_int32_t_float16_t(
  const device float* partials [[buffer(0)]],
  const device float* statistics [[buffer(1)]],
  const device float* signs [[buffer(2)]],
  const device int32_t* params [[buffer(3)]],
  device float16_t* out [[buffer(4)]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One threadgroup an output row: merge the splits, un-rotate their sum, add the exact window, divide.
// A SIMD group adds up every PARTS-th split. It asks for the first HELD of them before it uses any,
// and for the statistics of all: one wait instead of three.
// params: [6] splits
threadgroup float y[PARTS * VALUE_DIM];
const uint lane = thread_index_in_simdgroup;
const uint part = thread_position_in_threadgroup.y;
const uint row = threadgroup_position_in_grid.y;
const uint splits = params[6];
const uint first = row * (splits + 1);

float held[HELD][PER_LANE];
float maxima[HELD];
#pragma unroll
for (int i = 0; i < HELD; ++i) {
  const uint split = part + i * PARTS;
  const uint at = first + min(split, splits);
  maxima[i] = split < splits ? statistics[at * 2] : -INFINITY;
#pragma unroll
  for (int j = 0; j < PER_LANE; ++j) {
    held[i][j] = partials[at * VALUE_DIM + j * 32 + lane];
  }
}

float largest = -INFINITY;
for (uint split = lane; split <= splits; split += 32) {
  largest = max(largest, statistics[(first + split) * 2]);
}
largest = simd_max(largest);
float total = 0.0f;
for (uint split = lane; split <= splits; split += 32) {
  const uint at = (first + split) * 2;
  total += weight_of(statistics[at], largest) * statistics[at + 1];
}
total = simd_sum(total);
const float window = weight_of(statistics[(first + splits) * 2], largest);

float rotated[PER_LANE];
#pragma unroll
for (int j = 0; j < PER_LANE; ++j) {
  rotated[j] = 0.0f;
}
#pragma unroll
for (int i = 0; i < HELD; ++i) {
  const float weight = weight_of(maxima[i], largest);
#pragma unroll
  for (int j = 0; j < PER_LANE; ++j) {
    rotated[j] += weight * held[i][j];
  }
}
for (uint split = part + HELD * PARTS; split < splits; split += PARTS) {
  const float weight = weight_of(statistics[(first + split) * 2], largest);
#pragma unroll
  for (int j = 0; j < PER_LANE; ++j) {
    const uint dim = j * 32 + lane;
    rotated[j] += weight * partials[(first + split) * VALUE_DIM + dim];
  }
}
#pragma unroll
for (int j = 0; j < PER_LANE; ++j) {
  const uint dim = j * 32 + lane;
  y[part * VALUE_DIM + dim] = rotated[j];
}
threadgroup_barrier(mem_flags::mem_threadgroup);

const uint self = part * 32 + lane;
for (uint dim = self; dim < VALUE_DIM; dim += 32 * PARTS) {
  float sum = y[dim];
  for (int other = 1; other < PARTS; ++other) {
    sum += y[other * VALUE_DIM + dim];
  }
  y[dim] = sum;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
hadamard_threadgroup<M, POWER>(y, 1, HADAMARD_ROWS, self, 32 * PARTS);
for (uint dim = self; dim < VALUE_DIM; dim += 32 * PARTS) {
  const float exact = window * partials[(first + splits) * VALUE_DIM + dim];
  const float value = y[dim] * rsqrt(float(VALUE_DIM)) * signs[dim] + exact;
  out[row * VALUE_DIM + dim] = half(value / total);
}

}
