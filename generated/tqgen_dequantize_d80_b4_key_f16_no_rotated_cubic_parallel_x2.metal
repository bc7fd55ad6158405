// dequantize:head_dim=80,bits=4,layout=key,dtype=float16,rotated=False,codebook=cubic,kv_heads=8,batch=1,context=4096
// threads=parallel at_once=2
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 80;
constexpr constant int BITS = 4;
constexpr constant int TILE_WORDS = 320;
constexpr constant int M = 20;
constexpr constant int POWER = 4;

constant float CODEBOOK[16] = {
    -2.626205f, -2.0971968f, -1.6448374f, -1.257335f, -0.9228971f, -0.62973183f,
    -0.36604694f, -0.12005029f, 0.12005029f, 0.36604694f, 0.62973183f, 0.9228971f,
    1.257335f, 1.6448374f, 2.0971968f, 2.626205f
};

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
  return table[code_at<BITS>(tile + token, 32, dim)];
}

constexpr constant int VECTORS = 2;  // at once
[[kernel]] void custom_kernel_tqgen_dequantize_d80_b4_key_f16_no_rotated_cubic_parallel_x2_ffe813b46e_uint32_t_float16_t_float_int32_t_float16_t(
  const device uint32_t* words [[buffer(0)]],
  const device float16_t* scales [[buffer(1)]],
  const device float* signs [[buffer(2)]],
  const device int32_t* params [[buffer(3)]],
  device float16_t* out [[buffer(4)]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One thread a coordinate: a threadgroup of HEAD_DIM x VECTORS threads walks the tokens of a tile.
// params: [0] tiles to read of a head, [1] tiles that a head has room for
threadgroup float y[VECTORS * HEAD_DIM];
const uint dim = thread_position_in_threadgroup.x;
const uint vector = thread_position_in_threadgroup.y;
const uint head = threadgroup_position_in_grid.y;
const uint stored = head * params[1] + threadgroup_position_in_grid.x;
const uint row = (head * params[0] + threadgroup_position_in_grid.x) * 32;

// The tile and the codebook, read once.
threadgroup uint tile[TILE_WORDS];
threadgroup float table[1 << BITS];
for (int i = thread_index_in_threadgroup; i < TILE_WORDS; i += VECTORS * HEAD_DIM) {
  tile[i] = words[stored * TILE_WORDS + i];
}
for (int i = thread_index_in_threadgroup; i < 1 << BITS; i += VECTORS * HEAD_DIM) {
  table[i] = CODEBOOK[i];
}
threadgroup_barrier(mem_flags::mem_threadgroup);

for (uint token = vector; token < 32; token += VECTORS) {
  const float scale = float(scales[stored * 32 + token]);
  const uint self = vector * HEAD_DIM + dim;
  y[self] = centroid(tile, table, token, dim);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  hadamard_threadgroup<M, POWER>(y, VECTORS, HADAMARD_ROWS, self, VECTORS * HEAD_DIM);
  const float value = y[self] * scale * rsqrt(float(HEAD_DIM)) * signs[dim];
  out[(row + token) * HEAD_DIM + dim] = half(value);
}

}
