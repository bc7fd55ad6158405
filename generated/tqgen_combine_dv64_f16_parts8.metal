// combine:value_dim=64,dtype=float16,heads=32,batch=1,context=4096
// parts=8
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int VALUE_DIM = 64;
constexpr constant int PER_LANE = 2;  // coordinates
constexpr constant int PARTS = 8;  // of the splits, added up side by side
constexpr constant int HELD = 8;  // splits that a SIMD group asks for at once
constexpr constant int M = 1;
constexpr constant int POWER = 64;

// Rows of the transposed Hadamard matrix of order M: the inverse rotation.
constant uint HADAMARD_ROWS[1] = {
    0x0000001u
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

// The Hadamard transform of order M * POWER, H_M kron H_POWER, POWER a multiple of 32, by one SIMD
// group: lane l holds numbers l, l + 32, l + 64, ...
template <int M, int POWER, typename Vector, typename Rows>
inline void hadamard_simd(Vector x, Rows rows, uint lane) {
  constexpr int PER_POWER = POWER / 32;
#pragma unroll
  for (ushort distance = 1; distance < 32; distance *= 2) {
    const bool upper = (lane & distance) != 0;
    for (int r = 0; r < M * PER_POWER; ++r) {
      const float other = simd_shuffle_xor(x[r], distance);
      x[r] = upper ? other - x[r] : x[r] + other;
    }
  }
  for (int stage = 0; 1 << stage < PER_POWER; ++stage) {
    for (int pair = 0; pair < M * PER_POWER / 2; ++pair) {
      hadamard_pair(x, pair, stage);
    }
  }
  if (M > 1) {
    for (int p = 0; p < PER_POWER; ++p) {
      hadamard_order<M>(x, p, PER_POWER, rows);
    }
  }
}

inline float weight_of(float m, float largest) {
  return m == -INFINITY ? 0.0f : fast::exp2(m - largest);
}
[[kernel]] void custom_kernel_tqgen_combine_dv64_f16_parts8_97eeee7973_float_float_float_int32_t_float16_t(
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

float exact[PER_LANE];
float sign[PER_LANE];
#pragma unroll
for (int j = 0; j < PER_LANE; ++j) {
  exact[j] = partials[(first + splits) * VALUE_DIM + j * 32 + lane];
  sign[j] = signs[j * 32 + lane];
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

if (part == 0) {
#pragma unroll
  for (int other = 1; other < PARTS; ++other) {
#pragma unroll
    for (int j = 0; j < PER_LANE; ++j) {
      rotated[j] += y[other * VALUE_DIM + j * 32 + lane];
    }
  }
  hadamard_simd<M, POWER>(rotated, HADAMARD_ROWS, lane);
#pragma unroll
  for (int j = 0; j < PER_LANE; ++j) {
    const float value = rotated[j] * rsqrt(float(VALUE_DIM)) * sign[j] + window * exact[j];
    out[row * VALUE_DIM + j * 32 + lane] = half(value / total);
  }
}

}
