// qk_scores:head_dim=128,bits=4,gqa=7,q_len=1,dtype=float16,codebook=cubic,kv_heads=8,batch=1,context=4096
// layout=token lookup=threadgroup rows=8 simdgroups=4
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int KEY_DIM = 128;
constexpr constant int KEY_BITS = 4;
constexpr constant int KEY_TILE_WORDS = 512;
constexpr constant int M = 1;
constexpr constant int POWER = 128;
constexpr constant int HEAD_ROWS = 7;  // query rows that share a kv head: gqa * q_len
constexpr constant int ROWS = 8;  // of them, handled in one pass
constexpr constant int PASSES = 1;
constexpr constant int SIMDGROUPS = 4;
constexpr constant int KEY_PER_LANE = 4;

constant float KEY_CODEBOOK[16] = {
    -2.649379f, -2.112826f, -1.6548313f, -1.2633088f, -0.92617273f, -0.6313372f,
    -0.36671647f, -0.12022451f, 0.12022451f, 0.36671647f, 0.6313372f, 0.92617273f,
    1.2633088f, 1.6548313f, 2.112826f, 2.649379f
};

// Rows of the Hadamard matrix of order M.
constant uint HADAMARD_ROWS[1] = {
    0x0000001u
};

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

// `table` is a copy of the codebook in threadgroup memory.
template <typename Table>
inline float key_centroid(uint code, Table table) {
  return table[code];
}

// A lane owns a token: it adds COUNT coordinates to the score of each row. `words` is the lane's
// stream, a word every 32; `query` the first row's first coordinates, four at a time: one broadcast
// from threadgroup memory serves four codes.
template <int COUNT, typename Words, typename Query, typename Score, typename Table>
inline void add_scores(Words words, Query query, Score score, Table table) {
  constexpr int WORDS = (COUNT * KEY_BITS + 31) / 32;
  uint stream[WORDS];
#pragma unroll
  for (int k = 0; k < WORDS; ++k) {
    stream[k] = words[k * 32];
  }
#pragma unroll
  for (int j = 0; j < COUNT; j += 4) {
    const float c0 = key_centroid(code_at<KEY_BITS>(stream, 1, j), table);
    const float c1 = key_centroid(code_at<KEY_BITS>(stream, 1, j + 1), table);
    const float c2 = key_centroid(code_at<KEY_BITS>(stream, 1, j + 2), table);
    const float c3 = key_centroid(code_at<KEY_BITS>(stream, 1, j + 3), table);
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
      const float4 q = query[r * (KEY_DIM / 4) + j / 4];
      score[r] += q.x * c0;
      score[r] += q.y * c1;
      score[r] += q.z * c2;
      score[r] += q.w * c3;
    }
  }
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

// ROWS queries in log2 units to threadgroup memory, zeros past the last; rotated on request.
template <typename Out, typename Queries, typename Signs>
inline void load_queries(
    Out out, Queries queries, Signs signs, int rows, float scale, bool rotate, uint thread_id) {
  const uint lane = thread_id % 32;
  for (int r = thread_id / 32; r < ROWS; r += SIMDGROUPS) {
    float x[KEY_PER_LANE];
#pragma unroll
    for (int i = 0; i < KEY_PER_LANE; ++i) {
      const uint dim = i * 32 + lane;
      x[i] = r < rows ? float(queries[r * KEY_DIM + dim]) * scale : 0.0f;
      x[i] *= rotate ? signs[dim] * rsqrt(float(KEY_DIM)) : 1.0f;
    }
    if (rotate) {
      hadamard_simd<M, POWER>(x, HADAMARD_ROWS, lane);
    }
#pragma unroll
    for (int i = 0; i < KEY_PER_LANE; ++i) {
      out[r * KEY_DIM + i * 32 + lane] = x[i];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
[[kernel]] void custom_kernel_tqgen_qk_scores_d128_b4_gqa7_q1_f16_cubic_token_threadgroup_rows8_sg4_28b18fde4d_float16_t_uint32_t_float16_t_float_int32_t_float(
  const device float16_t* queries [[buffer(0)]],
  const device uint32_t* key_words [[buffer(1)]],
  const device float16_t* key_scales [[buffer(2)]],
  const device float* signs [[buffer(3)]],
  const device int32_t* params [[buffer(4)]],
  device float* scores [[buffer(5)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One SIMD group a tile of 32 packed keys.
// params: [0] tiles, [1] tiles that a head has room for, [5] the softmax scale's bits
threadgroup float query[ROWS * KEY_DIM];
threadgroup float4 query4[ROWS * KEY_DIM / 4];
const uint lane = thread_index_in_simdgroup;
const uint head = threadgroup_position_in_grid.z / PASSES;
const uint first_row = threadgroup_position_in_grid.z % PASSES * ROWS;
const int rows = min(ROWS, HEAD_ROWS - int(first_row));
const uint tiles = params[0];
const auto source = queries + (head * HEAD_ROWS + first_row) * KEY_DIM;
threadgroup float key_table[1 << KEY_BITS];
for (int i = thread_index_in_threadgroup; i < 1 << KEY_BITS; i += 32 * SIMDGROUPS) {
  key_table[i] = KEY_CODEBOOK[i];
}

load_queries(query, source, signs, rows, as_type<float>(params[5]), true, thread_index_in_threadgroup);
for (int i = thread_index_in_threadgroup; i < ROWS * KEY_DIM / 4; i += 32 * SIMDGROUPS) {
  query4[i] = float4(query[4 * i], query[4 * i + 1], query[4 * i + 2], query[4 * i + 3]);
}
threadgroup_barrier(mem_flags::mem_threadgroup);

const uint tile = threadgroup_position_in_grid.y * SIMDGROUPS + simdgroup_index_in_threadgroup;
if (tile < tiles) {
  const uint stored = head * params[1] + tile;
  const auto keys = key_words + stored * KEY_TILE_WORDS;
  float score[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    score[r] = 0.0f;
  }
  for (int group = 0; group < KEY_DIM / 32; ++group) {
    add_scores<32>(keys + group * KEY_BITS * 32 + lane, query4 + group * 8, score, key_table);
  }
  const float scale = float(key_scales[stored * 32 + lane]);
  for (int r = 0; r < rows; ++r) {
    scores[((head * HEAD_ROWS + first_row + r) * tiles + tile) * 32 + lane] = score[r] * scale;
  }
}

}
