// attend:key_dim=128,value_dim=128,key_bits=3,value_bits=3,gqa=7,q_len=1,dtype=float16,codebook=cubic,storage=fragment,kv_heads=8,batch=1,context=4096
// layout=fragment rows=8 simdgroups=4 in_flight=2 groups=256
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int KEY_DIM = 128;
constexpr constant int KEY_BITS = 3;
constexpr constant int KEY_TILE_WORDS = 384;
constexpr constant int KEY_UNITS = 4;  // of 32 coordinates
constexpr constant int KEY_PER_LANE = 4;
constexpr constant int VALUE_DIM = 128;
constexpr constant int VALUE_BITS = 3;
constexpr constant int VALUE_TILE_WORDS = 384;
constexpr constant int VALUE_UNITS = 4;
constexpr constant int PER_LANE = 4;  // coordinates of a value
constexpr constant int M = 1;
constexpr constant int POWER = 128;
constexpr constant int Q_LEN = 1;
constexpr constant int GQA = 7;  // query heads that share a kv head
constexpr constant int HEAD_ROWS = 7;  // query rows that share a kv head: gqa * q_len
constexpr constant int ROWS = 8;  // of them, handled in one pass
constexpr constant int STRIPS = 1;  // of 8 rows: columns of the matrix unit
constexpr constant int PASSES = 1;
constexpr constant int SIMDGROUPS = 4;
constexpr constant int STAGED = 128;  // floats of a row in threadgroup memory

// What the decoded pairs have to be multiplied by: in float32, where it costs nothing.
constexpr constant float KEY_STEP = 0.7153159f;
constexpr constant float VALUE_STEP = 0.7153159f;
// How far, in log2 units, scores may exceed the maximum before all weights are made anew.
constexpr constant float SLACK = 8.0f;

// Rows of the Hadamard matrix of order M.
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

// Pair `pair` of a lane's unit of BITS words: both codes c as y = (2 c + 1) / 2^BITS - 1, exactly.
// Every number but the words is known when `pair` is: an and-or and a subtraction remain, and a
// turn where the field does not end below bit 10 of its half.
template <int BITS, typename Words>
inline half2 fragment_level(Words unit, int pair) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  constexpr int REACH = 9 / BITS;  // pairs of a word that one turn brings below bit 10
  constexpr uint FIELD = ((1u << BITS) - 1u) * 0x10001u;
  int place = 1;
  uint field = FIELD << 1;
  uint word = 0;
  if (pair < EACH * BITS) {
    const int turn = pair % EACH / REACH * REACH * BITS;
    word = unit[pair / EACH];
    word = turn == 0 ? word : word >> turn | (SPARE == 0 ? word << (32 - turn) : 0u);
    place = 1 + pair % EACH * BITS - turn;
    field = FIELD << place;
  } else {  // its bits are in the words' spare ones
    const int first = (pair - EACH * BITS) * BITS;
#pragma unroll
    for (int k = 0; k < BITS; ++k) {
      const int begin = max(first, k * SPARE);
      const int count = min(first + BITS, (k + 1) * SPARE) - begin;
      const int at = 1 + begin - first;
      const int turn = 17 - SPARE + begin - k * SPARE - at;
      if (count > 0) {
        const uint turned = unit[k] >> turn | unit[k] << (32 - turn);
        word = and_or(turned, ((1u << count) - 1u) * 0x10001u << at, word);
      }
    }
  }
  // 2 c + 1 stands behind the leading one of a half of this exponent; less that one and 1, it is y.
  const uint exponent = uint(26 - place - BITS) << 10;
  const uint one = (exponent | 1u << (place + BITS - 1)) * 0x10001u;
  const uint below = (exponent | 1u << (place - 1)) * 0x10001u;
  return as_type<half2>(and_or(word, field, below)) - as_type<half2>(one);
}

// Both centroids of a pair, over KEY_STEP.
template <typename Words>
inline half2 key_pair(Words unit, int pair) {
  const half2 y = fragment_level<KEY_BITS>(unit, pair);
  return y * fma(y, y, as_type<half2>(0x41444144u));
}

// Both centroids of a pair, over VALUE_STEP.
template <typename Words>
inline half2 value_pair(Words unit, int pair) {
  const half2 y = fragment_level<VALUE_BITS>(unit, pair);
  return y * fma(y, y, as_type<half2>(0x41444144u));
}

// UNITS * BITS words of a lane, a word every 32.
template <int COUNT, typename Out, typename Words>
inline void load_words(Out out, Words words) {
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    out[i] = words[i * 32];
  }
}

// sums[group] += keys (8 tokens x 8 coordinates) * queries, over all fragments of a tile.
template <typename Sums, typename Words, typename Queries>
inline void add_scores(Sums sums, Words words, Queries queries) {
#pragma unroll
  for (int unit = 0; unit < KEY_UNITS; ++unit) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int block = corner / 2 * 2;
      const int group = corner % 2 * 2;
      const half2 a00 = key_pair(words + unit * KEY_BITS, block * 4 + group);
      const half2 a01 = key_pair(words + unit * KEY_BITS, block * 4 + 4 + group);
      const half2 a10 = key_pair(words + unit * KEY_BITS, block * 4 + group + 1);
      const half2 a11 = key_pair(words + unit * KEY_BITS, block * 4 + 4 + group + 1);
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
        const int first = (unit * 4 + block) * STRIPS + strip;
        multiply_block(
            sums[group * STRIPS + strip], sums[(group + 1) * STRIPS + strip], a00, a01, a10, a11,
            queries[first], queries[first + STRIPS]);
      }
    }
  }
}

// sums[block] += values (8 coordinates x 8 tokens) * weights, over all fragments of a tile.
template <typename Sums, typename Words, typename Weights>
inline void add_values(Sums sums, Words words, Weights weights) {
#pragma unroll
  for (int unit = 0; unit < VALUE_UNITS; ++unit) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int block = corner / 2 * 2;
      const int group = corner % 2 * 2;
      const half2 a00 = value_pair(words + unit * VALUE_BITS, block * 4 + group);
      const half2 a01 = value_pair(words + unit * VALUE_BITS, block * 4 + group + 1);
      const half2 a10 = value_pair(words + unit * VALUE_BITS, block * 4 + 4 + group);
      const half2 a11 = value_pair(words + unit * VALUE_BITS, block * 4 + 4 + group + 1);
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
        const int first = (unit * 4 + block) * STRIPS + strip;
        multiply_block(
            sums[first], sums[first + STRIPS], a00, a01, a10, a11,
            weights[group * STRIPS + strip], weights[(group + 1) * STRIPS + strip]);
      }
    }
  }
}
[[kernel]] void custom_kernel_tqgen_attend_dk128_dv128_kb3_vb3_gqa7_q1_f16_cubic_fragment_rows8_sg4_fl2_f4c4b5ad97_float16_t_uint32_t_float16_t_uint32_t_float16_t_float16_t_float16_t_float_int32_t_float_float(
  const device float16_t* queries [[buffer(0)]],
  const device uint32_t* key_words [[buffer(1)]],
  const device float16_t* key_scales [[buffer(2)]],
  const device uint32_t* value_words [[buffer(3)]],
  const device float16_t* value_scales [[buffer(4)]],
  const device float16_t* exact_keys [[buffer(5)]],
  const device float16_t* exact_values [[buffer(6)]],
  const device float* signs [[buffer(7)]],
  const device int32_t* params [[buffer(8)]],
  device float* partials [[buffer(9)]],
  device float* statistics [[buffer(10)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// Flash decode on the 8x8 matrix unit. Each split takes its tiles of the packed tokens, the last one
// the exact window; each leaves a maximum, a sum and an accumulator (rotated, but for the window).
// A SIMD group takes a tile: scores (tokens x query rows) = keys * queries, then output (coordinates
// x query rows) += values * weights, where a lane's scores are its weights.
// params: [1] tiles that a head has room for, [2] tiles of a split, [3] query heads, [4] tokens that
//         the exact window has room for, [5] the softmax scale's bits, [6] splits; then, for each
//         row of the batch, packed tokens that it does not see, tiles, exact tokens
threadgroup float query[ROWS * STAGED];
threadgroup float peaks[ROWS];
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
const auto held = params + 8 + int(head) * GQA / params[3] * 3;
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
const auto merged = query + 0;  // the queries are in registers by then, or used up
load_queries(query, source, signs, rows, log2_scale, split < splits, thread_index_in_threadgroup);

if (split < splits) {
  // Largest magnitude of each rotated query: halves hold the query over it.
  for (int r = simdgroup; r < ROWS; r += SIMDGROUPS) {
    float peak = 0.0f;
    for (int i = lane; i < KEY_DIM; i += 32) {
      peak = max(peak, abs(query[r * KEY_DIM + i]));
    }
    peak = simd_max(peak);
    if (lane == 0) {
      peaks[r] = peak > 1e-37f ? peak : 1.0f;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // This lane's elements: one row of every fragment, two columns, and in memory always this slot.
  const uint row = FRAGMENT_ROW(lane);
  const uint pair = FRAGMENT_PAIR(lane);
  const uint slot = row * 4 + pair;
  half2 rotated[KEY_UNITS * 4 * STRIPS];  // [8 coordinates][8 rows]
  float2 peak[STRIPS];
  float2 largest[STRIPS];
  float2 total[STRIPS];  // of this lane's tokens
#pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    const uint column = strip * 8 + pair * 2;
    peak[strip] = float2(peaks[column], peaks[column + 1]);
    const float2 over = float2(1.0f / peak[strip][0], 1.0f / peak[strip][1]);
    largest[strip] = float2(-INFINITY, -INFINITY);
    total[strip] = float2(0.0f, 0.0f);
#pragma unroll
    for (int block = 0; block < KEY_UNITS * 4; ++block) {
      const uint at = column * KEY_DIM + block * 8 + row;
      const float low = query[at] * over[0];
      const float high = query[at + KEY_DIM] * over[1];
      rotated[block * STRIPS + strip] = right_operand(half2(half(low), half(high)));
    }
    peak[strip] *= KEY_STEP;
  }
  float2 output[VALUE_UNITS * 4 * STRIPS];  // [8 coordinates][8 rows], over `unit`
#pragma unroll
  for (int i = 0; i < VALUE_UNITS * 4 * STRIPS; ++i) {
    output[i] = float2(0.0f, 0.0f);
  }
  float unit = 0.0f;  // the largest value scale so far: halves hold the weights over it
  float inverse = 0.0f;

  const uint begin = start + simdgroup;
  const uint origin = head * params[1];
  uint key_stream[KEY_UNITS * KEY_BITS];
  if (begin < end) {
    load_words<KEY_UNITS * KEY_BITS>(key_stream, key_words + (origin + begin) * KEY_TILE_WORDS + slot);
  }
  for (uint tile = begin; tile < end; tile += SIMDGROUPS) {
    const uint stored = origin + tile;
    uint value_stream[VALUE_UNITS * VALUE_BITS];
    float key_scale[4];
    float value_scale[4];
    load_words<VALUE_UNITS * VALUE_BITS>(value_stream, value_words + stored * VALUE_TILE_WORDS + slot);
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      key_scale[group] = float(key_scales[stored * 32 + group * 8 + row]);
      value_scale[group] = float(value_scales[stored * 32 + group * 8 + row]);
    }

    float2 score[4 * STRIPS];  // [8 tokens][8 rows]
#pragma unroll
    for (int i = 0; i < 4 * STRIPS; ++i) {
      score[i] = float2(0.0f, 0.0f);
    }
    add_scores(score, key_stream, rotated);
    // The next tile's keys are on their way while this one's values are used.
    const uint next = origin + min(tile + SIMDGROUPS, end - 1);
    load_words<KEY_UNITS * KEY_BITS>(key_stream, key_words + next * KEY_TILE_WORDS + slot);

    // Online softmax. The maximum moves, and all weights with it, only where a score exceeds it by
    // more than SLACK; likewise the unit of the values.
    float widest = max(max(value_scale[0], value_scale[1]), max(value_scale[2], value_scale[3]));
    bool exceeds = widest > unit;
    float2 most[STRIPS];
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
      most[strip] = float2(-INFINITY, -INFINITY);
#pragma unroll
      for (int group = 0; group < 4; ++group) {
        const int i = group * STRIPS + strip;
        score[i] = score[i] * (peak[strip] * key_scale[group]);
        most[strip] = max(most[strip], score[i]);
      }
      exceeds = exceeds || most[strip][0] > largest[strip][0] + SLACK;
      exceeds = exceeds || most[strip][1] > largest[strip][1] + SLACK;
    }
    if (simd_any(exceeds)) {
      for (int i = 0; i < 3; ++i) {
        widest = max(widest, simd_shuffle_xor(widest, ushort(FRAGMENT_STEP(i))));
      }
      const float before = unit;
      unit = widest > unit ? widest : unit;
      inverse = unit > 0.0f ? 1.0f / unit : 0.0f;
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
        for (int i = 0; i < 3; ++i) {
          most[strip] = max(most[strip], simd_shuffle_xor(most[strip], ushort(FRAGMENT_STEP(i))));
        }
        const float2 now = max(largest[strip], most[strip]);
        // No token yet, or none but NaN: nothing to shrink.
        const float2 shrink = float2(
            largest[strip][0] == now[0] ? 1.0f : exp2(largest[strip][0] - now[0]),
            largest[strip][1] == now[1] ? 1.0f : exp2(largest[strip][1] - now[1]));
        largest[strip] = now;
        total[strip] *= shrink;
        const float2 both = shrink * (before * inverse);
#pragma unroll
        for (int block = 0; block < VALUE_UNITS * 4; ++block) {
          output[block * STRIPS + strip] *= both;
        }
      }
    }
    half2 weight[4 * STRIPS];
#pragma unroll
    for (int group = 0; group < 4; ++group) {
      const float factor = value_scale[group] * inverse;
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
        const int i = group * STRIPS + strip;
        const float2 x = score[i] - largest[strip];
        const float2 p = float2(fast::exp2(x[0]), fast::exp2(x[1]));
        total[strip] += p;
        weight[i] = right_operand(half2(half(p[0] * factor), half(p[1] * factor)));
      }
    }
    add_values(output, value_stream, weight);
  }

  // Merge the SIMD groups, one after another, into one accumulator.
#pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    for (int i = 0; i < 3; ++i) {
      total[strip] += simd_shuffle_xor(total[strip], ushort(FRAGMENT_STEP(i)));
    }
    if (row == 0) {
      const uint at = simdgroup * ROWS + strip * 8 + pair * 2;
      maxima[at] = largest[strip][0];
      maxima[at + 1] = largest[strip][1];
      sums[at] = total[strip][0];
      sums[at + 1] = total[strip][1];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint turn = 0; turn < SIMDGROUPS; ++turn) {
    if (turn == simdgroup) {
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
        for (int second = 0; second < 2; ++second) {
          const uint r = strip * 8 + pair * 2 + second;
          float most = maxima[r];
          for (int g = 1; g < SIMDGROUPS; ++g) {
            most = max(most, maxima[g * ROWS + r]);
          }
          const float mine = largest[strip][second];
          const float shrink = mine == -INFINITY ? 0.0f : exp2(mine - most) * unit * VALUE_STEP;
#pragma unroll
          for (int block = 0; block < VALUE_UNITS * 4; ++block) {
            const uint at = r * VALUE_DIM + block * 8 + row;
            const float before = turn == 0 ? 0.0f : merged[at];
            merged[at] = before + output[block * STRIPS + strip][second] * shrink;
          }
        }
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
} else {
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
  // The exact window: a SIMD group takes four tokens at a time, so that their loads and sums overlap.
  // The newest Q_LEN tokens are causal.
  const int exact = split == splits ? held[2] : 0;
  for (int token = simdgroup * 4; token < exact; token += SIMDGROUPS * 4) {
    float key[4][KEY_PER_LANE];
    float value[4][PER_LANE];
  #pragma unroll
    for (int t = 0; t < 4; ++t) {
      const uint row = head * params[4] + min(token + t, exact - 1);
  #pragma unroll
      for (int i = 0; i < KEY_PER_LANE; ++i) {
        const uint dim = i * 32 + lane;
        key[t][i] = float(exact_keys[row * KEY_DIM + dim]);
      }
  #pragma unroll
      for (int i = 0; i < PER_LANE; ++i) {
        const uint dim = i * 32 + lane;
        value[t][i] = float(exact_values[row * VALUE_DIM + dim]);
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
