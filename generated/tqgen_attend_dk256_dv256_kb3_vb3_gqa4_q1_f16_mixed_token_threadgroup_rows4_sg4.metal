// attend:key_dim=256,value_dim=256,key_bits=3,value_bits=3,gqa=4,q_len=1,dtype=float16,codebook=mixed,storage=tiles,kv_heads=8,batch=1,context=4096
// layout=token lookup=threadgroup rows=4 simdgroups=4 groups=512
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int KEY_DIM = 256;
constexpr constant int KEY_BITS = 3;
constexpr constant int KEY_TILE_WORDS = 768;
constexpr constant int M = 1;
constexpr constant int POWER = 256;
constexpr constant int HEAD_ROWS = 4;  // query rows that share a kv head: gqa * q_len
constexpr constant int ROWS = 4;  // of them, handled in one pass
constexpr constant int PASSES = 1;
constexpr constant int SIMDGROUPS = 4;
constexpr constant int KEY_PER_LANE = 8;

constant float KEY_CODEBOOK[8] = {
    -2.1367793f, -1.3555928f, -0.7450845f, -0.23698297f, 0.23698297f, 0.7450845f,
    1.3555928f, 2.1367793f
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

constexpr constant int Q_LEN = 1;
constexpr constant int GQA = 4;  // query heads that share a kv head
constexpr constant int MOST_DIM = 256;
constexpr constant int VALUE_DIM = 256;
constexpr constant int VALUE_BITS = 3;
constexpr constant int VALUE_TILE_WORDS = 768;
constexpr constant int PER_LANE = 8;  // coordinates of a value

constant float VALUE_CODEBOOK[8] = {
    -2.0443103f, -1.4602218f, -0.876133f, -0.29204434f, 0.29204434f, 0.876133f,
    1.4602218f, 2.0443103f
};

// `table` is a copy of the codebook in threadgroup memory.
template <typename Table>
inline float value_centroid(uint code, Table table) {
  return table[code];
}
[[kernel]] void custom_kernel_tqgen_attend_dk256_dv256_kb3_vb3_gqa4_q1_f16_mixed_token_threadgroup_rows4_sg4_7211434680_float16_t_uint32_t_float16_t_uint32_t_float16_t_float16_t_float16_t_float16_t_float_int32_t_float_float(
  const device float16_t* queries [[buffer(0)]],
  const device uint32_t* key_words [[buffer(1)]],
  const device float16_t* key_scales [[buffer(2)]],
  const device uint32_t* value_words [[buffer(3)]],
  const device float16_t* value_scales [[buffer(4)]],
  const device float16_t* exact_keys [[buffer(5)]],
  const device float16_t* exact_values [[buffer(6)]],
  const device float16_t* key_centre [[buffer(7)]],
  const device float* signs [[buffer(8)]],
  const device int32_t* params [[buffer(9)]],
  device float* partials [[buffer(10)]],
  device float* statistics [[buffer(11)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// Flash decode. Each split takes its tiles of the packed tokens, the last one the exact window; each
// leaves a maximum, a sum and an accumulator (rotated, but for the exact window).
// params: [1] tiles that a head has room for, [2] tiles of a split, [3] query heads, [4] tokens that
//         the exact window has room for, [5] the softmax scale's bits, [6] splits; from [15] on,
//         for each row of the batch: packed tokens that it does not see, tiles, exact tokens
threadgroup float query[ROWS * MOST_DIM];
threadgroup float4 query4[ROWS * KEY_DIM / 4];
threadgroup float4 weights[SIMDGROUPS * ROWS * 8];
threadgroup float maxima[SIMDGROUPS * ROWS];
threadgroup float sums[SIMDGROUPS * ROWS];
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const uint splits = params[6];
// The exact window goes first: at the end it would be waited for alone.
const uint split = threadgroup_position_in_grid.y == 0 ? splits : threadgroup_position_in_grid.y - 1;
const uint head = threadgroup_position_in_grid.z / PASSES;
const uint first_row = threadgroup_position_in_grid.z % PASSES * ROWS;
const int rows = min(ROWS, HEAD_ROWS - int(first_row));
const auto held = params + 15 + int(head) * GQA / params[3] * 3;
const uint unseen = held[0];  // packed tokens, before those that the row sees
const uint start = unseen / 32 + split * params[2];
const uint end = split < splits ? min(start + params[2], uint(held[1])) : start;
const uint first = (head * HEAD_ROWS + first_row) * (splits + 1) + split;
if (split < splits && start >= end) {
  // A row with fewer tiles than the longest one: nothing to score.
  for (int i = thread_index_in_threadgroup; i < rows * VALUE_DIM; i += 32 * SIMDGROUPS) {
    const uint row = first + i / VALUE_DIM * (splits + 1);
    partials[row * VALUE_DIM + i % VALUE_DIM] = 0.0f;
  }
  for (int r = thread_index_in_threadgroup; r < rows; r += 32 * SIMDGROUPS) {
    const uint row = first + r * (splits + 1);
    statistics[row * 2] = -INFINITY;
    statistics[row * 2 + 1] = 0.0f;
  }
  return;
}
const float log2_scale = as_type<float>(params[5]) * 1.44269504f;
const auto source = queries + (head * HEAD_ROWS + first_row) * KEY_DIM;
const auto weight = weights + simdgroup * ROWS * 8;
const auto merged = query;  // which is not read any more by then
threadgroup float key_table[1 << KEY_BITS];
for (int i = thread_index_in_threadgroup; i < 1 << KEY_BITS; i += 32 * SIMDGROUPS) {
  key_table[i] = KEY_CODEBOOK[i];
}

threadgroup float value_table[1 << VALUE_BITS];
for (int i = thread_index_in_threadgroup; i < 1 << VALUE_BITS; i += 32 * SIMDGROUPS) {
  value_table[i] = VALUE_CODEBOOK[i];
}

load_queries(query, source, signs, rows, log2_scale, split < splits, thread_index_in_threadgroup);
for (int i = thread_index_in_threadgroup; i < ROWS * KEY_DIM / 4; i += 32 * SIMDGROUPS) {
  query4[i] = float4(query[4 * i], query[4 * i + 1], query[4 * i + 2], query[4 * i + 3]);
}
threadgroup_barrier(mem_flags::mem_threadgroup);

float largest[ROWS];
float total[ROWS];  // this lane's share
float accumulator[ROWS][PER_LANE];
for (int r = 0; r < ROWS; ++r) {
  largest[r] = -INFINITY;
  total[r] = 0.0f;
  for (int i = 0; i < PER_LANE; ++i) {
    accumulator[r][i] = 0.0f;
  }
}

for (uint tile = start + simdgroup; tile < end; tile += SIMDGROUPS) {
  const uint stored = head * params[1] + tile;
  const auto keys = key_words + stored * KEY_TILE_WORDS;
  float score[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    score[r] = 0.0f;
  }
  for (int group = 0; group < KEY_DIM / 32; ++group) {
    add_scores<32>(keys + group * KEY_BITS * 32 + lane, query4 + group * 8, score, key_table);
  }

  // Online softmax: the weights carry the value's scale.
  const float key_scale = float(key_scales[stored * 32 + lane]);
  const bool seen = tile * 32 + lane >= unseen;
  const float value_scale = seen ? float(value_scales[stored * 32 + lane]) : 0.0f;
  for (int r = 0; r < ROWS; ++r) {
    const float s = seen ? score[r] * key_scale : -INFINITY;
    const float now = max(largest[r], simd_max(s));
    const float shrink = exp2(largest[r] - now);
    const float p = exp2(s - now);
    largest[r] = now;
    total[r] = total[r] * shrink + p;
    const float w = p * value_scale;
    const float4 four = float4(
        w, simd_shuffle_xor(w, ushort(1)), simd_shuffle_xor(w, ushort(2)), simd_shuffle_xor(w, ushort(3)));
    if (lane % 4 == 0) {
      weight[r * 8 + lane / 4] = four;
    }
    for (int i = 0; i < PER_LANE; ++i) {
      accumulator[r][i] *= shrink;
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);

  // A lane owns coordinates lane, lane + 32, ... and walks the tile's 32 tokens, four at a time.
  const auto values = value_words + stored * VALUE_TILE_WORDS;
  uint streams[PER_LANE][VALUE_BITS];
#pragma unroll
  for (int i = 0; i < PER_LANE; ++i) {
    const uint dim = i * 32 + lane;
#pragma unroll
    for (int k = 0; k < VALUE_BITS; ++k) {
      streams[i][k] = values[k * VALUE_DIM + dim];
    }
  }
#pragma unroll
  for (int four = 0; four < 8; ++four) {
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
      const float c0 = value_centroid(code_at<VALUE_BITS>(streams[i], 1, 4 * four), value_table);
      const float c1 = value_centroid(code_at<VALUE_BITS>(streams[i], 1, 4 * four + 1), value_table);
      const float c2 = value_centroid(code_at<VALUE_BITS>(streams[i], 1, 4 * four + 2), value_table);
      const float c3 = value_centroid(code_at<VALUE_BITS>(streams[i], 1, 4 * four + 3), value_table);
#pragma unroll
      for (int r = 0; r < ROWS; ++r) {
        const float4 w = weight[r * 8 + four];
        accumulator[r][i] += w.x * c0;
        accumulator[r][i] += w.y * c1;
        accumulator[r][i] += w.z * c2;
        accumulator[r][i] += w.w * c3;
      }
    }
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
}

// The exact window: a SIMD group takes four tokens at a time, so that their loads and sums overlap.
// The newest Q_LEN tokens are causal.
const int exact = split == splits ? held[2] : 0;
const auto centre = key_centre + head * KEY_DIM;
float common[KEY_PER_LANE];  // to all keys, which the packed ones lack
#pragma unroll
for (int i = 0; i < KEY_PER_LANE; ++i) {
  const uint dim = i * 32 + lane;
  common[i] = float(centre[dim]);
}
for (int token = simdgroup * 4; token < exact; token += SIMDGROUPS * 4) {
  float key[4][KEY_PER_LANE];
  float value[4][PER_LANE];
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int at = min(token + t, exact - 1);
    const auto key_row = exact_keys + (head * params[4] + uint(at)) * KEY_DIM;
    const auto value_row = exact_values + (head * params[4] + uint(at)) * VALUE_DIM;
#pragma unroll
    for (int i = 0; i < KEY_PER_LANE; ++i) {
      const uint dim = i * 32 + lane;
      key[t][i] = float(key_row[dim]);
      key[t][i] -= common[i];
    }
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
      const uint dim = i * 32 + lane;
      value[t][i] = float(value_row[dim]);
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; ++r) {
    const int seen = exact;  // tokens
    float s[4];
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      s[t] = 0.0f;
#pragma unroll
      for (int i = 0; i < KEY_PER_LANE; ++i) {
        const uint dim = i * 32 + lane;
        s[t] += query[r * KEY_DIM + dim] * key[t][i];
      }
    }
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      s[t] = simd_sum(s[t]);
      s[t] = token + t < seen ? s[t] : -INFINITY;
    }
    const float now = max(largest[r], max(max(s[0], s[1]), max(s[2], s[3])));
    if (now == -INFINITY) {
      continue;  // this query sees none of them
    }
    const float shrink = exp2(largest[r] - now);
    float p[4];
    float sum = 0.0f;
#pragma unroll
    for (int t = 0; t < 4; ++t) {
      p[t] = exp2(s[t] - now);
      sum += p[t];
    }
    largest[r] = now;
    total[r] = total[r] * shrink + (lane == 0 ? sum : 0.0f);
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
      accumulator[r][i] *= shrink;
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        accumulator[r][i] += p[t] * value[t][i];
      }
    }
  }
}

// Merge the SIMD groups, one after another, into one accumulator.
for (int r = 0; r < ROWS; ++r) {
  const float sum = simd_sum(total[r]);
  if (lane == 0) {
    maxima[simdgroup * ROWS + r] = largest[r];
    sums[simdgroup * ROWS + r] = sum;
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint turn = 0; turn < SIMDGROUPS; ++turn) {
  if (turn == simdgroup) {
    for (int r = 0; r < ROWS; ++r) {
      float most = maxima[r];
      for (int g = 1; g < SIMDGROUPS; ++g) {
        most = max(most, maxima[g * ROWS + r]);
      }
      const float shrink = largest[r] == -INFINITY ? 0.0f : exp2(largest[r] - most);
      for (int i = 0; i < PER_LANE; ++i) {
        const int dim = i * 32 + lane;
        if (dim < VALUE_DIM) {
          const float before = turn == 0 ? 0.0f : merged[r * VALUE_DIM + dim];
          merged[r * VALUE_DIM + dim] = before + accumulator[r][i] * shrink;
        }
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

for (int i = thread_index_in_threadgroup; i < rows * VALUE_DIM; i += 32 * SIMDGROUPS) {
  const uint row = first + i / VALUE_DIM * (splits + 1);
  partials[row * VALUE_DIM + i % VALUE_DIM] = merged[i];
}
for (int r = thread_index_in_threadgroup; r < rows; r += 32 * SIMDGROUPS) {
  float most = -INFINITY;
  for (int g = 0; g < SIMDGROUPS; ++g) {
    most = max(most, maxima[g * ROWS + r]);
  }
  float sum = 0.0f;
  for (int g = 0; g < SIMDGROUPS; ++g) {
    const float m = maxima[g * ROWS + r];
    sum += m == -INFINITY ? 0.0f : sums[g * ROWS + r] * exp2(m - most);
  }
  const uint row = first + r * (splits + 1);
  statistics[row * 2] = most;
  statistics[row * 2 + 1] = sum;
}

}
