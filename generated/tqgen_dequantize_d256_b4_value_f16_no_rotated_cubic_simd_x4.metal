// dequantize:head_dim=256,bits=4,layout=value,dtype=float16,rotated=False,codebook=cubic,kv_heads=8,batch=1,context=4096
// threads=simd at_once=4
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 256;
constexpr constant int BITS = 4;
constexpr constant int TILE_WORDS = 1024;
constexpr constant int M = 1;
constexpr constant int POWER = 256;

constant float CODEBOOK[16] = {
    -2.66893f, -2.126007f, -1.6632551f, -1.2683401f, -0.9289281f, -0.63268507f,
    -0.36727706f, -0.120370016f, 0.120370016f, 0.36727706f, 0.63268507f, 0.9289281f,
    1.2683401f, 1.6632551f, 2.126007f, 2.66893f
};

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

// Code `index` of a stream whose words stand `stride` apart from words[0]: bits [index * BITS,
// (index + 1) * BITS), least significant first.
template <int BITS, typename Words>
inline uint code_at(Words words, int stride, int index) {
  const int bit = index * BITS;
  const int word = bit >> 5;
  const int shift = bit & 31;
  uint code = words[word * stride] >> shift;
  if (shift + BITS > 32) {
    code |= words[(word + 1) * stride] << (32 - shift);
  }
  return code & ((1u << BITS) - 1u);
}

// Centroid of one coordinate of one token of a tile, in standard deviations of a coordinate.
template <typename Words, typename Table>
inline float centroid(Words tile, Table table, int token, int dim) {
  return table[code_at<BITS>(tile + dim, HEAD_DIM, token)];
}

constexpr constant int SIMDGROUPS = 4;
constexpr constant int PER_LANE = HEAD_DIM / 32;
[[kernel]] void custom_kernel_tqgen_dequantize_d256_b4_value_f16_no_rotated_cubic_simd_x4_3cb0f0f4f9_uint32_t_float16_t_float_int32_t_float16_t(
  const device uint32_t* words [[buffer(0)]],
  const device float16_t* scales [[buffer(1)]],
  const device float* signs [[buffer(2)]],
  const device int32_t* params [[buffer(3)]],
  device float16_t* out [[buffer(4)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One SIMD group a token: a lane holds coordinates lane, lane + 32, ... and shuffles for the rest.
// params: [0] tiles to read of a head, [1] tiles that a head has room for
const uint lane = thread_index_in_simdgroup;
const uint head = threadgroup_position_in_grid.y;
const uint stored = head * params[1] + threadgroup_position_in_grid.x;
const uint row = (head * params[0] + threadgroup_position_in_grid.x) * 32;

// The tile and the codebook, read once.
threadgroup uint tile[TILE_WORDS];
threadgroup float table[1 << BITS];
for (int i = thread_index_in_threadgroup; i < TILE_WORDS; i += SIMDGROUPS * 32) {
  tile[i] = words[stored * TILE_WORDS + i];
}
for (int i = thread_index_in_threadgroup; i < 1 << BITS; i += SIMDGROUPS * 32) {
  table[i] = CODEBOOK[i];
}
threadgroup_barrier(mem_flags::mem_threadgroup);

for (uint token = simdgroup_index_in_threadgroup; token < 32; token += SIMDGROUPS) {
  float y[PER_LANE];
  for (int r = 0; r < PER_LANE; ++r) {
    y[r] = centroid(tile, table, token, r * 32 + lane);
  }
  hadamard_simd<M, POWER>(y, HADAMARD_ROWS, lane);
  const float scale = float(scales[stored * 32 + token]) * rsqrt(float(HEAD_DIM));
  for (int r = 0; r < PER_LANE; ++r) {
    const uint dim = r * 32 + lane;
    out[(row + token) * HEAD_DIM + dim] = half(y[r] * scale * signs[dim]);
  }
}

}
