// prefill:key_dim=128,value_dim=128,key_bits=4,value_bits=3,dtype=float16,codebook=mixed,storage=tiles,heads=32,kv_heads=8,batch=1,queries=2048,context=16384
// strips=2 simdgroups=4 buffers=2 resident=12
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int KEY_DIM = 128;
constexpr constant int KEY_BITS = 4;
constexpr constant int KEY_TILE_WORDS = 512;
constexpr constant int KEY_UNITS = 4;  // of 32 coordinates
constexpr constant int VALUE_DIM = 128;
constexpr constant int VALUE_BITS = 3;
constexpr constant int VALUE_TILE_WORDS = 384;
constexpr constant int VALUE_UNITS = 4;
constexpr constant int SIMDGROUPS = 4;
constexpr constant int THREADS = 128;
constexpr constant int STRIPS = 2;  // of 8 query rows, of a SIMD group
constexpr constant int ROWS = 64;  // of a threadgroup
constexpr constant int STAGED = 1024;  // fours of halves: the blocks of a tile, of 32 x 4 pairs
constexpr constant int VALUE_STAGED = 512;  // where those of the values begin
constexpr constant int BAND = 4;  // SIMD groups whose vectors are rotated at a time, a strip each
// How many threadgroups a core should have registers for: CUDA's compiler takes it.
#define RESIDENT_THREADGROUPS 3

// What the decoded pairs have to be multiplied by: in float32, where it costs nothing.
constexpr constant float KEY_STEP = 1.0332305f;
constexpr constant float VALUE_STEP = 2.3286254f;
// How far, in log2 units, scores may exceed the maximum before all weights are made anew.
constexpr constant float SLACK = 8.0f;

constexpr constant int KEY_M = 1;
constexpr constant int KEY_POWER = 128;
constexpr constant int VALUE_M = 1;
constexpr constant int VALUE_POWER = 128;

// Rows of the Hadamard matrix of order KEY_M, and of the transposed one of order VALUE_M.
constant uint KEY_HADAMARD[1] = {
    0x0000001u
};
constant uint VALUE_HADAMARD[1] = {
    0x0000001u
};

// Threadgroup memory as numbers of another type.
#ifndef THREADGROUP_AS
#define THREADGROUP_AS(type, memory) ((threadgroup type*)(memory))
#endif

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

// Codes `first` and the next of a stream as y = (2 c + 1) / 2^BITS - 1, exactly.
template <int BITS, typename Words>
inline half2 tile_level(Words stream, int first) {
  const uint both = code_at<BITS>(stream, 1, first) | code_at<BITS>(stream, 1, first + 1) << 16;
  const half2 code = as_type<half2>(both | 0x64006400u) - as_type<half2>(0x64006400u);  // of 1024 + c
  const float step = 1.0f / float(1 << BITS);
  return fma(code, half2(half(2.0f * step)), half2(half(step - 1.0f)));
}

// Both centroids of a pair, over KEY_STEP.
template <typename Words>
inline half2 key_pair(Words unit, int pair) {
  const half2 y = tile_level<KEY_BITS>(unit, pair);
  return y * fma(y, y, as_type<half2>(0x3f6e3f6eu));
}

// Both centroids of a pair, over VALUE_STEP.
template <typename Words>
inline half2 value_pair(Words unit, int pair) {
  const half2 y = tile_level<VALUE_BITS>(unit, pair);
  return y;
}

constexpr constant int KEY_SHARE = 1;  // SIMD groups that make the blocks of a unit
constexpr constant int KEY_TURNS = 1;  // units, or shares of them, of a SIMD group

// The words of this SIMD group's units of a tile.
template <typename Out, typename Words>
inline void load_key_words(Out out, Words words, uint simdgroup) {
#pragma unroll
  for (int turn = 0; turn < KEY_TURNS; ++turn) {
    const int unit = min((turn * SIMDGROUPS + int(simdgroup)) / KEY_SHARE, KEY_UNITS - 1);
#pragma unroll
    for (int i = 0; i < KEY_BITS; ++i) {
      out[turn * KEY_BITS + i] = words[(unit * KEY_BITS + i) * 32];
    }
  }
}

// These units as blocks, [unit][corner][lane].
template <typename Blocks, typename Words>
inline void stage_keys(Blocks blocks, Words words, uint simdgroup, uint place) {
#pragma unroll
  for (int turn = 0; turn < KEY_TURNS; ++turn) {
    const int item = turn * SIMDGROUPS + int(simdgroup);
    const int unit = item / KEY_SHARE;
    const auto codes = words + turn * KEY_BITS;
    // A lane has a token's 32 coordinates. Others write to the same four pairs: one by one.
    const auto pairs = THREADGROUP_AS(uint, blocks);
    if (unit < KEY_UNITS) {
#pragma unroll
      for (int i = 0; i < 32; i += 2) {
        const int corner = i / 16 * 2 + int(place) / 16;
        const int at = (unit * 4 + corner) * 32 + int(place) % 8 * 4 + i % 8 / 2;
        const int part = i / 8 % 2 * 2 + int(place) / 8 % 2;
        pairs[at * 4 + part] = as_type<uint>(key_pair(codes, i));
      }
    }
  }
}

constexpr constant int VALUE_SHARE = 1;  // SIMD groups that make the blocks of a unit
constexpr constant int VALUE_TURNS = 1;  // units, or shares of them, of a SIMD group

// The words of this SIMD group's units of a tile.
template <typename Out, typename Words>
inline void load_value_words(Out out, Words words, uint simdgroup) {
#pragma unroll
  for (int turn = 0; turn < VALUE_TURNS; ++turn) {
    const int unit = min((turn * SIMDGROUPS + int(simdgroup)) / VALUE_SHARE, VALUE_UNITS - 1);
#pragma unroll
    for (int i = 0; i < VALUE_BITS; ++i) {
      out[turn * VALUE_BITS + i] = words[i * VALUE_DIM + unit * 32];
    }
  }
}

// These units as blocks, [unit][corner][lane].
template <typename Blocks, typename Words>
inline void stage_values(Blocks blocks, Words words, uint simdgroup, uint place) {
#pragma unroll
  for (int turn = 0; turn < VALUE_TURNS; ++turn) {
    const int item = turn * SIMDGROUPS + int(simdgroup);
    const int unit = item / VALUE_SHARE;
    const auto codes = words + turn * VALUE_BITS;
    // A lane has a coordinate's 32 tokens. Others write to the same four pairs: one by one.
    const auto pairs = THREADGROUP_AS(uint, blocks);
    if (unit < VALUE_UNITS) {
#pragma unroll
      for (int i = 0; i < 32; i += 2) {
        const int corner = int(place) / 16 * 2 + i / 16;
        const int at = (unit * 4 + corner) * 32 + int(place) % 8 * 4 + i % 8 / 2;
        const int part = i / 8 % 2 * 2 + int(place) / 8 % 2;
        pairs[at * 4 + part] = as_type<uint>(value_pair(codes, i));
      }
    }
  }
}

// sums[group] += keys (8 tokens x 8 coordinates) * queries, over all blocks of a tile.
template <typename Sums, typename Blocks, typename Queries>
inline void add_scores(Sums sums, Blocks blocks, Queries queries, uint slot) {
#pragma unroll
  for (int i = 0; i < KEY_UNITS * 4; ++i) {
    const uint4 a = blocks[i * 32 + slot];
    const int group = i % 2 * 2;
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
      const int first = i / 2 * 2 * STRIPS + strip;
      multiply_block(
          sums[group * STRIPS + strip], sums[(group + 1) * STRIPS + strip], as_type<half2>(a[0]),
          as_type<half2>(a[2]), as_type<half2>(a[1]), as_type<half2>(a[3]),
          as_type<half2>(queries[first]), as_type<half2>(queries[first + STRIPS]));
    }
  }
}

// sums[block] += values (8 coordinates x 8 tokens) * weights, over all blocks of a tile.
template <typename Sums, typename Blocks, typename Weights>
inline void add_values(Sums sums, Blocks blocks, Weights weights, uint slot) {
#pragma unroll
  for (int i = 0; i < VALUE_UNITS * 4; ++i) {
    const uint4 a = blocks[i * 32 + slot];
    const int group = i % 2 * 2;
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
      const int first = i / 2 * 2 * STRIPS + strip;
      multiply_block(
          sums[first], sums[first + STRIPS], as_type<half2>(a[0]), as_type<half2>(a[2]),
          as_type<half2>(a[1]), as_type<half2>(a[3]), weights[group * STRIPS + strip],
          weights[(group + 1) * STRIPS + strip]);
    }
  }
}

// The coordinate of row `row` of fragment `block`: of the queries, and of the output.
#define EXACT_KEY_COORDINATE(block, row) \
  ((block) / 4 * 32 + (row) / 2 * 8 + (block) % 4 * 2 + (row) % 2)
#define EXACT_VALUE_COORDINATE(block, row) ((block) / 4 * 32 + (row) * 4 + (block) % 4)

// Tokens first .. first + 31 of the keys less their centre, after the last token the last once more.
template <typename Blocks, typename Rows, typename Common, typename Scales>
inline void stage_exact_keys(
    Blocks blocks, Rows rows, Common common, Scales scales, int first, int count, uint simdgroup,
    uint lane) {
  for (int i = simdgroup; i < KEY_UNITS * 4; i += SIMDGROUPS) {
    const int at = i / 4 * 8 + int(FRAGMENT_PAIR(lane)) * 2 + i % 4 / 2;
    const int t = i % 2 * 16 + int(FRAGMENT_ROW(lane));
    const auto centre = (const device half4*)(common);
    const auto upper = (const device half4*)(rows + min(first + t, count - 1) * KEY_DIM);
    const auto lower = (const device half4*)(rows + min(first + t + 8, count - 1) * KEY_DIM);
    const half4 x = upper[at] - centre[at];
    const half4 y = lower[at] - centre[at];
    blocks[i * 32 + FRAGMENT_ROW(lane) * 4 + FRAGMENT_PAIR(lane)] = uint4(
        as_type<uint>(half2(half(x[0]), half(x[1]))), as_type<uint>(half2(half(y[0]), half(y[1]))),
        as_type<uint>(half2(half(x[2]), half(x[3]))), as_type<uint>(half2(half(y[2]), half(y[3]))));
  }
}

// The values of these tokens, likewise.
template <typename Blocks, typename Rows, typename Scales>
inline void stage_exact_values(
    Blocks blocks, Rows rows, Scales scales, int first, int count, uint simdgroup, uint lane) {
  for (int i = simdgroup; i < VALUE_UNITS * 4; i += SIMDGROUPS) {
    const int at = i / 4 * 16 + int(FRAGMENT_ROW(lane)) * 2 + i % 4 / 2;
    uint pairs[4];
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int t = i % 2 * 16 + side * 8 + int(FRAGMENT_PAIR(lane)) * 2;
      const auto left = (const device half2*)(rows + min(first + t, count - 1) * VALUE_DIM);
      const auto right = (const device half2*)(rows + min(first + t + 1, count - 1) * VALUE_DIM);
      const half2 x = left[at];
      const half2 y = right[at];
      pairs[side * 2] = as_type<uint>(half2(half(x[0]), half(y[0])));
      pairs[side * 2 + 1] = as_type<uint>(half2(half(x[1]), half(y[1])));
    }
    blocks[i * 32 + FRAGMENT_ROW(lane) * 4 + FRAGMENT_PAIR(lane)] = uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
  }
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
[[kernel]] void custom_kernel_tqgen_prefill_dk128_dv128_kb4_vb3_f16_mixed_tiles_strips2_sg4_buffers2_resident12_49272cc3d0_float16_t_uint32_t_float16_t_uint32_t_float16_t_float16_t_float16_t_float16_t_float_float_int32_t_float16_t(
  const device float16_t* queries [[buffer(0)]],
  const device uint32_t* key_words [[buffer(1)]],
  const device float16_t* key_scales [[buffer(2)]],
  const device uint32_t* value_words [[buffer(3)]],
  const device float16_t* value_scales [[buffer(4)]],
  const device float16_t* exact_keys [[buffer(5)]],
  const device float16_t* exact_values [[buffer(6)]],
  const device float16_t* key_centre [[buffer(7)]],
  const device float* signs [[buffer(8)]],
  const device float* value_signs [[buffer(9)]],
  const device int32_t* params [[buffer(10)]],
  device float16_t* out [[buffer(11)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// Flash attention of a prompt chunk on the 8x8 matrix unit: over the packed tokens, all of which come
// before the chunk, then over the exact ones, which are causal. A threadgroup takes ROWS query rows
// that share a kv head (row = query * gqa + head); its SIMD groups decode a tile together into
// threadgroup memory, and each multiplies it with its own rows. The output is rotated until the
// packed tokens are done.
// params: [0] query heads that share a kv head, [1] tiles that a head has room for, [2] query heads,
//         [3] query length, [4] exact tokens that a head has room for, [5] the softmax scale's bits,
//         [6] whether the newest tokens are causal; from [8] on, for each row of the batch: tiles,
//         exact tokens
#define ROW_AT(r) ((head * params[0] + (r) % params[0]) * params[3] + (r) / params[0])
threadgroup uint4 staged[STAGED];
const int scales = 0;  // halves need none
const auto floats = THREADGROUP_AS(float, staged);
const auto key_blocks = staged + 0;
const auto value_blocks = staged + VALUE_STAGED;
const uint lane = thread_index_in_simdgroup;
const uint simdgroup = simdgroup_index_in_threadgroup;
const int head = threadgroup_position_in_grid.z;
const int head_rows = params[0] * params[3];
const int first_row = threadgroup_position_in_grid.y * ROWS;
const auto held = params + 8 + head * params[0] / params[2] * 2;
const int tiles = held[0];
const int exact = held[1];
// This lane's elements: one row of every fragment, two columns, and in memory always this slot.
const uint row = FRAGMENT_ROW(lane);
const uint pair = FRAGMENT_PAIR(lane);
const uint slot = row * 4 + pair;
const uint place = lane;  // in the packed words
const int own_row = first_row + int(simdgroup) * STRIPS * 8 + int(pair) * 2;
const float log2_scale = as_type<float>(params[5]) * 1.44269504f;

uint parts[KEY_UNITS * 4 * STRIPS];  // of the queries, two halves each: [8 coordinates][8 rows]
float2 peak[STRIPS];
Softmax softmax;
#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
  softmax.largest[strip] = float2(-INFINITY, -INFINITY);
  softmax.total[strip] = float2(0.0f, 0.0f);
}
softmax.unit = 0.0f;
softmax.inverse = 0.0f;
float2 output[VALUE_UNITS * 4 * STRIPS];  // [8 coordinates][8 rows], over softmax.unit
#pragma unroll
for (int i = 0; i < VALUE_UNITS * 4 * STRIPS; ++i) {
  output[i] = float2(0.0f, 0.0f);
}

if (tiles > 0) {
  #pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    for (int band = 0; band < SIMDGROUPS; band += BAND) {
      for (int i = thread_index_in_threadgroup; i < BAND * 8 * KEY_DIM; i += THREADS) {
        const int dim = i % KEY_DIM;
        const int column = i / KEY_DIM;
        const int r = first_row + ((band + column / 8) * STRIPS + strip) * 8 + column % 8;
        const float x = r < head_rows ? float(queries[ROW_AT(r) * KEY_DIM + dim]) * log2_scale : 0.0f;
        floats[i] = x * signs[dim] * rsqrt(float(KEY_DIM));
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      hadamard_threadgroup<KEY_M, KEY_POWER>(
          floats, BAND * 8, KEY_HADAMARD, thread_index_in_threadgroup, THREADS);
      if (int(simdgroup) / BAND * BAND == band) {
        const auto query = floats + ((int(simdgroup) - band) * 8 + int(pair) * 2) * KEY_DIM;
        float2 largest = float2(0.0f, 0.0f);
  #pragma unroll
        for (int block = 0; block < KEY_UNITS * 4; ++block) {
          const uint i = block * 8 + row;
          const float2 x = float2(query[i], query[KEY_DIM + i]);
          largest = max(largest, float2(abs(x[0]), abs(x[1])));
        }
        for (int i = 0; i < 3; ++i) {
          largest = max(largest, simd_shuffle_xor(largest, ushort(FRAGMENT_STEP(i))));
        }
        largest = float2(
            largest[0] > 1e-37f ? largest[0] : 1.0f, largest[1] > 1e-37f ? largest[1] : 1.0f);
        const float2 over = float2(1.0f / largest[0], 1.0f / largest[1]);
  #pragma unroll
        for (int block = 0; block < KEY_UNITS * 4; ++block) {
          const uint i = block * 8 + row;
          const float2 x = float2(query[i], query[KEY_DIM + i]) * over;
          parts[block * STRIPS + strip] = as_type<uint>(right_operand(half2(half(x[0]), half(x[1]))));
        }
        peak[strip] = largest * KEY_STEP;
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
  const int origin = head * params[1];
  uint key_stream[KEY_TURNS * KEY_BITS];
  uint value_stream[VALUE_TURNS * VALUE_BITS];
  load_key_words(key_stream, key_words + origin * KEY_TILE_WORDS + place, simdgroup);
  load_value_words(value_stream, value_words + origin * VALUE_TILE_WORDS + place, simdgroup);
  stage_keys(key_blocks, key_stream, simdgroup, place);
  for (int tile = 0; tile < tiles; ++tile) {
    const int stored = origin + tile;
    const int next = origin + min(tile + 1, tiles - 1);
    load_key_words(key_stream, key_words + next * KEY_TILE_WORDS + place, simdgroup);
    float key_scale[4];
    float value_scale[4];
  #pragma unroll
    for (int group = 0; group < 4; ++group) {
      key_scale[group] = float(key_scales[stored * 32 + group * 8 + row]);
      value_scale[group] = float(value_scales[stored * 32 + group * 8 + row]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);  // the keys are there
    stage_values(value_blocks, value_stream, simdgroup, place);
    load_value_words(value_stream, value_words + next * VALUE_TILE_WORDS + place, simdgroup);
    float2 score[4 * STRIPS];  // [8 tokens][8 rows]
  #pragma unroll
    for (int i = 0; i < 4 * STRIPS; ++i) {
      score[i] = float2(0.0f, 0.0f);
    }
    add_scores(score, key_blocks, parts, slot);
  #pragma unroll
    for (int i = 0; i < 4 * STRIPS; ++i) {
      score[i] = score[i] * (peak[i % STRIPS] * key_scale[i / STRIPS]);
    }
    half2 weight[4 * STRIPS];
    weigh<4>(softmax, score, value_scale, output, weight);
    threadgroup_barrier(mem_flags::mem_threadgroup);  // the values are there
    stage_keys(key_blocks, key_stream, simdgroup, place);
    add_values(output, value_blocks, weight, slot);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  #pragma unroll
  for (int strip = 0; strip < STRIPS; ++strip) {
    for (int band = 0; band < SIMDGROUPS; band += BAND) {
      const bool own = int(simdgroup) / BAND * BAND == band;
      const auto mine = floats + ((int(simdgroup) % BAND) * 8 + int(pair) * 2) * VALUE_DIM;
      if (own) {
  #pragma unroll
        for (int block = 0; block < VALUE_UNITS * 4; ++block) {
          const float2 x = output[block * STRIPS + strip];
          mine[block * 8 + row] = x[0];
          mine[VALUE_DIM + block * 8 + row] = x[1];
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
      hadamard_threadgroup<VALUE_M, VALUE_POWER>(
          floats, BAND * 8, VALUE_HADAMARD, thread_index_in_threadgroup, THREADS);
      if (own) {
  #pragma unroll
        for (int block = 0; block < VALUE_UNITS * 4; ++block) {
          const uint i = EXACT_VALUE_COORDINATE(block, row);
          const float factor = value_signs[i] * (VALUE_STEP * rsqrt(float(VALUE_DIM)));
          output[block * STRIPS + strip] = float2(mine[i], mine[VALUE_DIM + i]) * factor;
        }
      }
      threadgroup_barrier(mem_flags::mem_threadgroup);
    }
  }
}

#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
  for (int band = 0; band < SIMDGROUPS; band += BAND) {
    for (int i = thread_index_in_threadgroup; i < BAND * 8 * KEY_DIM; i += THREADS) {
      const int dim = i % KEY_DIM;
      const int column = i / KEY_DIM;
      const int r = first_row + ((band + column / 8) * STRIPS + strip) * 8 + column % 8;
      const float x = r < head_rows ? float(queries[ROW_AT(r) * KEY_DIM + dim]) * log2_scale : 0.0f;
      floats[i] = x;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (int(simdgroup) / BAND * BAND == band) {
      const auto query = floats + ((int(simdgroup) - band) * 8 + int(pair) * 2) * KEY_DIM;
      float2 largest = float2(0.0f, 0.0f);
#pragma unroll
      for (int block = 0; block < KEY_UNITS * 4; ++block) {
        const uint i = EXACT_KEY_COORDINATE(block, row);
        const float2 x = float2(query[i], query[KEY_DIM + i]);
        largest = max(largest, float2(abs(x[0]), abs(x[1])));
      }
      for (int i = 0; i < 3; ++i) {
        largest = max(largest, simd_shuffle_xor(largest, ushort(FRAGMENT_STEP(i))));
      }
      largest = float2(
          largest[0] > 1e-37f ? largest[0] : 1.0f, largest[1] > 1e-37f ? largest[1] : 1.0f);
      const float2 over = float2(1.0f / largest[0], 1.0f / largest[1]);
#pragma unroll
      for (int block = 0; block < KEY_UNITS * 4; ++block) {
        const uint i = EXACT_KEY_COORDINATE(block, row);
        const float2 x = float2(query[i], query[KEY_DIM + i]) * over;
        parts[block * STRIPS + strip] = as_type<uint>(right_operand(half2(half(x[0]), half(x[1]))));
      }
      peak[strip] = largest;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
}
const auto keys = exact_keys + head * params[4] * KEY_DIM;
const auto centre = key_centre + head * KEY_DIM;
const auto values = exact_values + head * params[4] * VALUE_DIM;
const int last_row = min(first_row + ROWS, head_rows) - 1;
const int end = params[6] ? exact - params[3] + last_row / params[0] + 1 : exact;
int seen[STRIPS * 2];  // exact tokens, by each row
#pragma unroll
for (int i = 0; i < STRIPS * 2; ++i) {
  const int r = min(own_row + i / 2 * 8 + i % 2, head_rows - 1);
  seen[i] = params[6] ? exact - params[3] + r / params[0] + 1 : exact;
}
for (int token = 0; token < end; token += 32) {
  stage_exact_keys(key_blocks, keys, centre, scales, token, exact, simdgroup, lane);
  stage_exact_values(value_blocks, values, scales, token, exact, simdgroup, lane);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float2 score[4 * STRIPS];  // [8 tokens][8 rows]
#pragma unroll
  for (int i = 0; i < 4 * STRIPS; ++i) {
    score[i] = float2(0.0f, 0.0f);
  }
  add_scores(score, key_blocks, parts, slot);
  float value_scale[4];
#pragma unroll
  for (int group = 0; group < 4; ++group) {
    value_scale[group] = 1.0f;
  }
#pragma unroll
  for (int i = 0; i < 4 * STRIPS; ++i) {
    const int group = i / STRIPS;
    const int strip = i % STRIPS;
    const int at = token + group * 8 + int(row);
    score[i] = score[i] * peak[strip];
    score[i][0] = at < seen[strip * 2] ? score[i][0] : -INFINITY;
    score[i][1] = at < seen[strip * 2 + 1] ? score[i][1] : -INFINITY;
  }
  half2 weight[4 * STRIPS];
  weigh<4>(softmax, score, value_scale, output, weight);
  add_values(output, value_blocks, weight, slot);
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

#pragma unroll
for (int strip = 0; strip < STRIPS; ++strip) {
  for (int i = 0; i < 3; ++i) {
    softmax.total[strip] += simd_shuffle_xor(softmax.total[strip], ushort(FRAGMENT_STEP(i)));
  }
#pragma unroll
  for (int second = 0; second < 2; ++second) {
    const int r = own_row + strip * 8 + second;
    if (r < head_rows) {
      float total = softmax.total[strip][second];
      float shrink = 1.0f;
      const auto to = out + ROW_AT(r) * VALUE_DIM;
      const float factor = softmax.unit * shrink / total;
#pragma unroll
      for (int block = 0; block < VALUE_UNITS * 4; ++block) {
        const float value = output[block * STRIPS + strip][second] * factor;
        to[EXACT_VALUE_COORDINATE(block, row)] = half(value);
      }
    }
  }
}

}
