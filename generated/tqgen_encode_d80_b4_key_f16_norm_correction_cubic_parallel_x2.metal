// encode:head_dim=80,bits=4,layout=key,dtype=float16,norm_correction=True,codebook=cubic,kv_heads=8,batch=1,context=1024
// threads=parallel at_once=2
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 80;
constexpr constant int CODE_STRIDE = 84;  // staged codes of a token: no two of a column share a bank
constexpr constant int BITS = 4;
constexpr constant int WORDS = 10;  // of a token
constexpr constant int TILE_WORDS = 320;
constexpr constant int M = 20;
constexpr constant int POWER = 4;

// The positive half of the codebook, in standard deviations of a coordinate, and halfway between.
constant float MAGNITUDES[8] = {
    0.12005029f, 0.36604694f, 0.62973183f, 0.9228971f, 1.257335f, 1.6448374f,
    2.0971968f, 2.626205f
};
constant float BOUNDARIES[7] = {
    0.24304862f, 0.4978894f, 0.7763145f, 1.090116f, 1.4510862f, 1.8710171f,
    2.361701f
};

// Rows of the Hadamard matrix of order M.
constant uint HADAMARD_ROWS[20] = {
    0x0084336u, 0x004238bu, 0x00211d5u, 0x00108fau, 0x000866du, 0x007c139u, 0x00ba29cu, 0x00d914eu,
    0x00e88a7u, 0x00f0653u, 0x0035a0fu, 0x001ad17u, 0x008d49bu, 0x00c685du, 0x006343eu, 0x0049a10u,
    0x00a0d08u, 0x0054484u, 0x002e042u, 0x0093021u
};

// Word `word` of the stream of `count` codes that stand `stride` bytes apart from codes[0].
template <int BITS, typename Codes>
inline uint pack_word(Codes codes, int stride, int count, int word) {
  const int first_bit = word * 32;
  const int first = first_bit / BITS;
  const int last = min((first_bit + 31) / BITS, count - 1);
  uint packed = 0;
  for (int j = first; j <= last; ++j) {
    const uint code = codes[j * stride];
    const int shift = j * BITS - first_bit;
    packed |= shift >= 0 ? code << shift : code >> -shift;
  }
  return packed;
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

// From a vector to codes and one scale.

// NaN and infinity by their exponent: comparisons may be optimised away under fast math.
inline bool is_finite(float x) {
  return (as_type<uint>(x) & 0x7f800000u) != 0x7f800000u;
}

// Smaller numbers are subnormal, and zero on many GPUs.
constexpr constant float SMALLEST = 1.17549435e-38f;

struct Nearest {
  uint code;
  float magnitude;  // of the centroid
};

// The centroid nearest to y. The codebook is symmetric, so the search is over magnitudes: a chain
// of selects on constants for few levels, a bisection of the table for many.
inline Nearest nearest(float y) {
  const float distance = abs(y);
  uint level = 0;
  float magnitude = MAGNITUDES[0];
#pragma unroll
  for (int i = 0; i < (1 << (BITS - 1)) - 1; ++i) {
    level += distance > BOUNDARIES[i] ? 1 : 0;
    magnitude = distance > BOUNDARIES[i] ? MAGNITUDES[i + 1] : magnitude;
  }
  Nearest found;
  found.code = y > 0.0f ? (1u << (BITS - 1)) + level : (1u << (BITS - 1)) - 1u - level;
  found.magnitude = magnitude;
  return found;
}

// The stored scale: fp16 ends at 65504; a token that was not finite says so.
inline half stored_scale(float scale, bool finite) {
  return finite ? half(min(scale, 65504.0f)) : as_type<half>(ushort(0x7e00));
}

// The codes of a tile, staged token by token, to its words. Every thread of the threadgroup helps.
template <typename Codes, typename Words>
inline void write_tile(Codes codes, Words words, uint thread_id, uint threads) {
  // [word][token]: a lane that owns a token reads coalesced words.
  for (int item = thread_id; item < WORDS * 32; item += threads) {
    const int word = item / 32;
    const int token = item % 32;
    words[item] = pack_word<BITS>(codes + token * CODE_STRIDE, 1, HEAD_DIM, word);
  }
}

constexpr constant int VECTORS = 2;  // at once
[[kernel]] void custom_kernel_tqgen_encode_d80_b4_key_f16_norm_correction_cubic_parallel_x2_2f85d5d4b0_float16_t_float_int32_t_uint32_t_float16_t(
  const device float16_t* x [[buffer(0)]],
  const device float* signs [[buffer(1)]],
  const device int32_t* params [[buffer(2)]],
  device uint32_t* words [[buffer(3)]],
  device float16_t* scales [[buffer(4)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One thread a coordinate: a threadgroup of HEAD_DIM x VECTORS threads walks the tokens of a tile.
// params: [0] tiles of a head
threadgroup uchar codes[32 * CODE_STRIDE];
threadgroup float y[VECTORS * HEAD_DIM];
threadgroup float largest[VECTORS];
threadgroup float squares[VECTORS];
threadgroup uint finite[VECTORS];
const uint dim = thread_position_in_threadgroup.x;
const uint vector = thread_position_in_threadgroup.y;
const uint self = vector * HEAD_DIM + dim;
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const uint tile = threadgroup_position_in_grid.y * params[0] + threadgroup_position_in_grid.x;

for (int first = 0; first < 32; first += VECTORS) {
  const uint token = first + vector;
  y[self] = float(x[(tile * 32 + token) * HEAD_DIM + dim]);
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // SIMD group g measures vector g. Divided by the largest, no square overflows or vanishes.
  if (group < VECTORS) {
    float most = 0.0f;
    bool all_finite = true;
    for (int i = lane; i < HEAD_DIM; i += 32) {
      const float value = y[group * HEAD_DIM + i];
      all_finite = all_finite && is_finite(value);
      most = max(most, abs(value));
    }
    most = simd_max(most);
    all_finite = simd_all(all_finite);
    const bool nonzero = all_finite && most >= SMALLEST;
    const float inverse = 1.0f / most;
    float sum = 0.0f;
    for (int i = lane; i < HEAD_DIM; i += 32) {
      const float value = nonzero ? y[group * HEAD_DIM + i] * inverse : 0.0f;
      sum += value * value;
    }
    sum = simd_sum(sum);
    if (lane == 0) {
      largest[group] = nonzero ? most : 0.0f;
      squares[group] = sum;
      finite[group] = all_finite ? 1 : 0;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const bool nonzero = largest[vector] > 0.0f;
  y[self] = nonzero ? y[self] * (1.0f / largest[vector]) * signs[dim] : 0.0f;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  hadamard_threadgroup<M, POWER>(y, VECTORS, HADAMARD_ROWS, self, VECTORS * HEAD_DIM);

  // H y / ||y||: the rotated unit vector in standard deviations of a coordinate.
  const float unit = nonzero ? rsqrt(squares[vector]) : 0.0f;
  const Nearest found = nearest(y[self] * unit);
  codes[token * CODE_STRIDE + dim] = uchar(found.code);
  y[self] = found.magnitude * found.magnitude;
  threadgroup_barrier(mem_flags::mem_threadgroup);

  if (group < VECTORS) {
    float length = 0.0f;
    for (int i = lane; i < HEAD_DIM; i += 32) {
      length += y[group * HEAD_DIM + i];
    }
    length = simd_sum(length);
    if (lane == 0) {
      const float scale = largest[group] * sqrt(squares[group] / length);
      scales[tile * 32 + first + group] = stored_scale(scale, finite[group] != 0);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
write_tile(codes, words + tile * TILE_WORDS, self, VECTORS * HEAD_DIM);

}
