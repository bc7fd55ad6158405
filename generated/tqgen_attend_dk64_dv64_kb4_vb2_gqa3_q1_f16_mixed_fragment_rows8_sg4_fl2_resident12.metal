// attend:key_dim=64,value_dim=64,key_bits=4,value_bits=2,gqa=3,q_len=1,dtype=float16,codebook=mixed,storage=fragment,kv_heads=8,batch=1,context=4096
// layout=fragment rows=8 simdgroups=4 in_flight=2 resident=12 groups=384
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int KEY_DIM = 64;
constexpr constant int KEY_BITS = 4;
constexpr constant int KEY_TILE_WORDS = 256;
constexpr constant int KEY_UNITS = 2;  // of 32 coordinates
constexpr constant int KEY_PER_LANE = 2;
constexpr constant int VALUE_DIM = 64;
constexpr constant int VALUE_BITS = 2;
constexpr constant int VALUE_TILE_WORDS = 128;
constexpr constant int VALUE_UNITS = 2;
constexpr constant int M = 1;
constexpr constant int POWER = 64;
constexpr constant int Q_LEN = 1;
constexpr constant int GQA = 3;  // query heads that share a kv head
constexpr constant int HEAD_ROWS = 3;  // query rows that share a kv head: gqa * q_len
constexpr constant int ROWS = 8;  // of them, handled in one pass
constexpr constant int STRIPS = 1;  // of 8 rows: columns of the matrix unit
constexpr constant int PASSES = 1;
constexpr constant int SIMDGROUPS = 4;
// How many threadgroups a core should have registers for: CUDA's compiler takes it.
#define RESIDENT_THREADGROUPS 3
constexpr constant int REGIONS = 4;  // of threadgroup memory in which SIMD groups are added up
constexpr constant int MERGED_ROW = 68;  // floats; 4 keep the lanes of a store in different banks
constexpr constant int STAGED = 2176;  // floats

// What the decoded pairs have to be multiplied by: in float32, where it costs nothing.
constexpr constant float KEY_STEP = 0.99030995f;
constexpr constant float VALUE_STEP = 1.9803555f;
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
  return y * fma(y, y, as_type<half2>(0x3fbc3fbcu));
}

// Both centroids of a pair, over VALUE_STEP.
template <typename Words>
inline half2 value_pair(Words unit, int pair) {
  const half2 y = fragment_level<VALUE_BITS>(unit, pair);
  return y;
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

// Coordinate i of row r, over all regions.
template <typename Merged>
inline float merged_row(Merged merged, int r, int i) {
  float sum = merged[r * MERGED_ROW + i];
#pragma unroll
  for (int region = 1; region < REGIONS; ++region) {
    sum += merged[(region * ROWS + r) * MERGED_ROW + i];
  }
  return sum;
}

// What a lane knows of its query rows: two in each strip.
struct Softmax {
  float2 largest[STRIPS];  // score so far, over all lanes, less at most SLACK
  float2 total[STRIPS];    // of the weights of this lane's tokens
  float unit;              // the largest value scale so far: halves hold the weights over it
  float inverse;
};

// Online softmax: scores (GROUPS x 8 tokens x 8 rows, log2 units) to weights times value scales.
// The maximum moves, and all outputs with it, only where a score exceeds it by more than SLACK;
// likewise the unit of the values.
template <int GROUPS, typename Scores, typename Scales, typename Output, typename Weights>
inline void weigh(
    thread Softmax& softmax, Scores score, Scales value_scale, Output output, Weights weight) {
  float widest = value_scale[0];
#pragma unroll
  for (int group = 1; group < GROUPS; ++group) {
    widest = max(widest, value_scale[group]);
  }
  bool exceeds = widest > softmax.unit;
  float2 most[STRIPS];
#pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    most[strip] = score[strip];
#pragma unroll
    for (int group = 1; group < GROUPS; ++group) {
      most[strip] = max(most[strip], score[group * STRIPS + strip]);
    }
    exceeds = exceeds || most[strip][0] > softmax.largest[strip][0] + SLACK;
    exceeds = exceeds || most[strip][1] > softmax.largest[strip][1] + SLACK;
  }
  if (simd_any(exceeds)) {
    for (int i = 0; i < 3; ++i) {
      widest = max(widest, simd_shuffle_xor(widest, ushort(FRAGMENT_STEP(i))));
    }
    const float before = softmax.unit;
    softmax.unit = max(widest, before);
    softmax.inverse = softmax.unit > 0.0f ? 1.0f / softmax.unit : 0.0f;
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
      for (int i = 0; i < 3; ++i) {
        most[strip] = max(most[strip], simd_shuffle_xor(most[strip], ushort(FRAGMENT_STEP(i))));
      }
      const float2 largest = softmax.largest[strip];
      const float2 now = max(largest, most[strip]);
      // No token yet, or none but NaN: nothing to shrink.
      const float2 shrink = float2(
          largest[0] == now[0] ? 1.0f : exp2(largest[0] - now[0]),
          largest[1] == now[1] ? 1.0f : exp2(largest[1] - now[1]));
      softmax.largest[strip] = now;
      softmax.total[strip] *= shrink;
      const float2 both = shrink * (before * softmax.inverse);
#pragma unroll
      for (int block = 0; block < VALUE_UNITS * 4; ++block) {
        output[block * STRIPS + strip] *= both;
      }
    }
  }
#pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    // A row that has seen no token yet has no maximum.
    const float2 base = float2(
        softmax.largest[strip][0] == -INFINITY ? 0.0f : softmax.largest[strip][0],
        softmax.largest[strip][1] == -INFINITY ? 0.0f : softmax.largest[strip][1]);
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
      const int i = group * STRIPS + strip;
      const float factor = value_scale[group] * softmax.inverse;
      const float2 x = score[i] - base;
      const float2 p = float2(fast::exp2(x[0]), fast::exp2(x[1]));
      softmax.total[strip] += p;
      weight[i] = right_operand(half2(half(p[0] * factor), half(p[1] * factor)));
    }
  }
}

// The coordinate of row `row` of fragment `block`: of the queries, and of the output.
#define EXACT_KEY_COORDINATE(block, row) \
  ((block) / 4 * 32 + (row) / 2 * 8 + (block) % 4 * 2 + (row) % 2)
#define EXACT_VALUE_COORDINATE(block, row) ((row) * (VALUE_UNITS * 4) + (block))

// The keys of 16 tokens less their common vector, [8 coordinates][8 tokens], after the last token the
// last once more. Returns what they are over.
template <typename Out, typename Rows>
inline float load_exact_keys(
    Out out, Rows rows, Rows common, int first, int exact, uint lane) {
  const auto centre = (const device half4*)(common);
  half4 x[KEY_UNITS * 4];  // [unit][half of 8 neighbours][group of 8 tokens]
#pragma unroll
  for (int group = 0; group < 2; ++group) {
    const int token = min(first + group * 8 + int(FRAGMENT_ROW(lane)), exact - 1);
    const auto from = (const device half4*)(rows + token * KEY_DIM);
#pragma unroll
    for (int i = 0; i < KEY_UNITS * 2; ++i) {
      const int at = i / 2 * 8 + FRAGMENT_PAIR(lane) * 2 + i % 2;
      x[i * 2 + group] = from[at] - centre[at];
    }
  }
#pragma unroll
  for (int i = 0; i < KEY_UNITS * 4; ++i) {
    const int block = i / 2 * 2;
    out[block * 2 + i % 2] = half2(half(x[i][0]), half(x[i][1]));
    out[block * 2 + 2 + i % 2] = half2(half(x[i][2]), half(x[i][3]));
  }
  return 1.0f;
}

// The values of 16 tokens, [8 coordinates][8 tokens], likewise.
template <typename Out, typename Rows>
inline float load_exact_values(
    Out out, Rows rows, int first, int exact, uint lane) {
  half4 x[VALUE_UNITS * 4];  // [4 neighbours][token of a lane's four]
#pragma unroll
  for (int t = 0; t < 4; ++t) {
    const int token = first + t / 2 * 8 + int(FRAGMENT_PAIR(lane)) * 2 + t % 2;
    const auto from = (const device half4*)(rows + min(token, exact - 1) * VALUE_DIM);
#pragma unroll
    for (int i = 0; i < VALUE_UNITS; ++i) {
      x[i * 4 + t] = half4(from[FRAGMENT_ROW(lane) * VALUE_UNITS + i]);
    }
  }
#pragma unroll
  for (int block = 0; block < VALUE_UNITS * 4; ++block) {
#pragma unroll
    for (int group = 0; group < 2; ++group) {
      const int i = block / 4 * 4 + group * 2;
      const int j = block % 4;
      out[block * 2 + group] = half2(half(x[i][j]), half(x[i + 1][j]));
    }
  }
  return 1.0f;
}
[[kernel]] void custom_kernel_tqgen_attend_dk64_dv64_kb4_vb2_gqa3_q1_f16_mixed_fragment_rows8_sg4_fl2_resident12_296cfd4336_float16_t_uint32_t_float16_t_uint32_t_float16_t_float16_t_float16_t_float16_t_float_int32_t_float_float(
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
// Flash decode on the 8x8 matrix unit. Each split takes its tiles of the packed tokens, the last one
// the exact window; each leaves a maximum, a sum and an accumulator (rotated, but for the window).
// A SIMD group takes a tile: scores (tokens x query rows) = keys * queries, then output (coordinates
// x query rows) += values * weights, where a lane's scores are its weights.
// params: [1] tiles that a head has room for, [2] tiles of a split, [3] query heads, [4] tokens that
//         the exact window has room for, [5] the softmax scale's bits, [6] splits; from [15] on,
//         for each row of the batch: packed tokens that it does not see, tiles, exact tokens
threadgroup float staged[STAGED];
threadgroup float peaks[ROWS];
threadgroup float maxima[SIMDGROUPS * ROWS];
threadgroup float sums[SIMDGROUPS * ROWS];
const auto query = staged + 0;
const auto merged = staged + 0;  // the queries are in registers by then
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const uint splits = params[6];
// The exact window goes first: at the end it would be waited for alone.
const uint split = threadgroup_position_in_grid.y == 0 ? splits : threadgroup_position_in_grid.y - 1;
const bool packed = split < splits;
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
const uint begin = start + simdgroup;
const uint origin = head * params[1];
// This lane's elements: one row of every fragment, two columns, and in memory always this slot.
const uint row = FRAGMENT_ROW(lane);
const uint pair = FRAGMENT_PAIR(lane);
const uint slot = row * 4 + pair;
uint key_stream[KEY_UNITS * KEY_BITS];
// The first keys are on their way while the queries are made ready.
if (packed && begin < end) {
  load_words<KEY_UNITS * KEY_BITS>(key_stream, key_words + (origin + begin) * KEY_TILE_WORDS + slot);
}
const float log2_scale = as_type<float>(params[5]) * 1.44269504f;
const auto source = queries + (head * HEAD_ROWS + first_row) * KEY_DIM;
load_queries(query, source, signs, rows, log2_scale, packed, thread_index_in_threadgroup);

// Largest magnitude of each query: halves hold the query over it.
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

half2 parts[KEY_UNITS * 4 * STRIPS];  // of the queries: [8 coordinates][8 rows]
float2 peak[STRIPS];
Softmax softmax;
#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
  const uint column = strip * 8 + pair * 2;
  peak[strip] = float2(peaks[column], peaks[column + 1]);
  const float2 over = float2(1.0f / peak[strip][0], 1.0f / peak[strip][1]);
  softmax.largest[strip] = float2(-INFINITY, -INFINITY);
  softmax.total[strip] = float2(0.0f, 0.0f);
#pragma unroll
  for (int block = 0; block < KEY_UNITS * 4; ++block) {
    // The coordinate that this lane's row of the block stands for.
    const uint i = packed ? block * 8 + row : EXACT_KEY_COORDINATE(block, row);
    const float low = query[column * KEY_DIM + i] * over[0];
    const float high = query[column * KEY_DIM + KEY_DIM + i] * over[1];
    parts[block * STRIPS + strip] = right_operand(half2(half(low), half(high)));
  }
}
softmax.unit = 0.0f;
softmax.inverse = 0.0f;
float2 output[VALUE_UNITS * 4 * STRIPS];  // [8 coordinates][8 rows], over softmax.unit
#pragma unroll
for (int i = 0; i < VALUE_UNITS * 4 * STRIPS; ++i) {
  output[i] = float2(0.0f, 0.0f);
}

if (packed) {
#pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    peak[strip] *= KEY_STEP;
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
    add_scores(score, key_stream, parts);
    // The next tile's keys are on their way while this one's values are used.
    const uint next = origin + min(tile + SIMDGROUPS, end - 1);
    load_words<KEY_UNITS * KEY_BITS>(key_stream, key_words + next * KEY_TILE_WORDS + slot);

#pragma unroll
    for (int i = 0; i < 4 * STRIPS; ++i) {
      score[i] = score[i] * (peak[i % STRIPS] * key_scale[i / STRIPS]);
    }
    if (tile * 32 < unseen) {  // the first tile of a sliding window
#pragma unroll
      for (int i = 0; i < 4 * STRIPS; ++i) {
        const bool seen = tile * 32 + i / STRIPS * 8 + row >= unseen;
        score[i] = seen ? score[i] : float2(-INFINITY, -INFINITY);
      }
#pragma unroll
      for (int group = 0; group < 4; ++group) {  // a weight of zero does not hide NaN
        const bool seen = tile * 32 + group * 8 + row >= unseen;
        value_scale[group] = seen ? value_scale[group] : 0.0f;
      }
    }
    half2 weight[4 * STRIPS];
    weigh<4>(softmax, score, value_scale, output, weight);
    add_values(output, value_stream, weight);
  }
} else {
  const int exact = held[2];
  const auto keys = exact_keys + head * params[4] * KEY_DIM;
  const auto centre = key_centre + head * KEY_DIM;
  const auto values = exact_values + head * params[4] * VALUE_DIM;
  for (int token = simdgroup * 16; token < exact; token += SIMDGROUPS * 16) {
    half2 key[KEY_UNITS * 8];
    half2 value[VALUE_UNITS * 8];
    const float key_scale = load_exact_keys(key, keys, centre, token, exact, lane);
    const float scale = load_exact_values(value, values, token, exact, lane);
    float2 score[2 * STRIPS];  // [8 tokens][8 rows]
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
      score[strip] = float2(0.0f, 0.0f);
      score[STRIPS + strip] = float2(0.0f, 0.0f);
#pragma unroll
      for (int block = 0; block < KEY_UNITS * 4; block += 2) {
        multiply_block(
            score[strip], score[STRIPS + strip], key[block * 2], key[block * 2 + 2],
            key[block * 2 + 1], key[block * 2 + 3], parts[block * STRIPS + strip],
            parts[block * STRIPS + STRIPS + strip]);
      }
#pragma unroll
      for (int group = 0; group < 2; ++group) {
        const int i = group * STRIPS + strip;
        const int at = token + group * 8 + int(row);
        score[i] = score[i] * (peak[strip] * key_scale);
        score[i] = at < exact ? score[i] : float2(-INFINITY, -INFINITY);
      }
    }
    const float value_scale[2] = {scale, scale};
    half2 weight[2 * STRIPS];
    weigh<2>(softmax, score, value_scale, output, weight);
#pragma unroll
    for (int block = 0; block < VALUE_UNITS * 4; block += 2) {
#pragma unroll
      for (int strip = 0; strip < STRIPS; ++strip) {
        const int first = block * STRIPS + strip;
        multiply_block(
            output[first], output[first + STRIPS], value[block * 2], value[block * 2 + 1],
            value[block * 2 + 2], value[block * 2 + 3], weight[strip], weight[STRIPS + strip]);
      }
    }
  }
}

// Merge the SIMD groups: each into a region of its own where there are that many.
#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
  for (int i = 0; i < 3; ++i) {
    softmax.total[strip] += simd_shuffle_xor(softmax.total[strip], ushort(FRAGMENT_STEP(i)));
  }
  if (row == 0) {
    const uint at = simdgroup * ROWS + strip * 8 + pair * 2;
    maxima[at] = softmax.largest[strip][0];
    maxima[at + 1] = softmax.largest[strip][1];
    sums[at] = softmax.total[strip][0];
    sums[at + 1] = softmax.total[strip][1];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const float step = softmax.unit * (packed ? VALUE_STEP : 1.0f);
#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
#pragma unroll
  for (int second = 0; second < 2; ++second) {
    const uint r = strip * 8 + pair * 2 + second;
    float most = maxima[r];
    for (int g = 1; g < SIMDGROUPS; ++g) {
      most = max(most, maxima[g * ROWS + r]);
    }
    const float mine = softmax.largest[strip][second];
    const float shrink = mine == -INFINITY ? 0.0f : exp2(mine - most) * step;
    const auto region = merged + (simdgroup % REGIONS * ROWS + r) * MERGED_ROW;
#pragma unroll
    for (int block = 0; block < VALUE_UNITS * 4; ++block) {
      const uint i = packed ? block * 8 + row : EXACT_VALUE_COORDINATE(block, row);
      const float part = output[block * STRIPS + strip][second] * shrink;
      region[i] = part;
    }
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);

for (int i = thread_index_in_threadgroup; i < rows * VALUE_DIM; i += 32 * SIMDGROUPS) {
  const uint row = first + i / VALUE_DIM * (splits + 1);
  partials[row * VALUE_DIM + i % VALUE_DIM] = merged_row(merged, i / VALUE_DIM, i % VALUE_DIM);
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
