// encode:head_dim=128,bits=3,layout=key_fragment,dtype=float16,norm_correction=True,codebook=cubic,kv_heads=8,batch=1,context=1024
// threads=simd at_once=4
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 128;
constexpr constant int CODE_STRIDE = 132;  // staged codes of a token: no two of a column share a bank
constexpr constant int BITS = 3;
constexpr constant int WORDS = 12;  // of a token
constexpr constant int TILE_WORDS = 384;
constexpr constant int M = 1;
constexpr constant int POWER = 128;

// The positive half of the codebook, in standard deviations of a coordinate, and halfway between.
constant float MAGNITUDES[4] = {
    0.2367887f, 0.74388844f, 1.351555f, 2.126833f
};
constant float BOUNDARIES[3] = {
    0.49033856f, 1.0477217f, 1.739194f
};

// Rows of the Hadamard matrix of order M.
constant uint HADAMARD_ROWS[1] = {
    0x0000001u
};

// Word `item` = (unit * BITS + word) * 32 + lane of a tile in the fragment layout, from the codes of
// the tile, token by token. 32 coordinates are a unit of 16 fragments of 8 coordinates x 8 tokens;
// the rows are tokens for keys and coordinates for values; lane = row * 4 + column / 2.
template <int BITS, int DIM, bool KEYS, typename Codes>
inline uint fragment_word(Codes codes, int item) {
  constexpr int EACH = 16 / BITS;  // pairs of a word
  constexpr int SPARE = 16 - EACH * BITS;
  const int row = item / 4 % 8;
  const int column = item % 4 * 2;
  const int word = item / 32 % BITS;
  const int unit = item / 32 / BITS;
  const int from = KEYS ? row * DIM + column : column * DIM + row;  // the first code, in a fragment
  const int next = KEYS ? 1 : DIM;  // to the second code of a pair

  uint packed = 0;
  for (int i = 0; i < EACH; ++i) {
    const int pair = word * EACH + i;
    const int at = from + unit * 32 + pair / 4 * 8 + pair % 4 * 8 * DIM;
    packed |= (codes[at] | uint(codes[at + next]) << 16) << (i * BITS);
  }
  // The pairs that do not fit are one stream over the spare bits.
  for (int i = 0; i < SPARE; ++i) {
    const int pair = EACH * BITS + (word * SPARE + i) / BITS;
    const int bit = (word * SPARE + i) % BITS;
    const int at = from + unit * 32 + pair / 4 * 8 + pair % 4 * 8 * DIM;
    const uint both = codes[at] | uint(codes[at + next]) << 16;
    packed |= (both >> bit & 0x10001u) << (16 - SPARE + i);
  }
  return packed << 1 | packed >> 31;
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
  // [unit, word][lane] of the fragments.
  for (int item = thread_id; item < TILE_WORDS; item += threads) {
    words[item] = fragment_word<BITS, CODE_STRIDE, true>(codes, item);
  }
}

constexpr constant int SIMDGROUPS = 4;
constexpr constant int PER_LANE = HEAD_DIM / 32;
[[kernel]] void custom_kernel_tqgen_encode_d128_b3_key_fragment_f16_norm_correction_cubic_simd_x4_513b86dc38_float16_t_float_int32_t_uint32_t_float16_t(
  const device float16_t* x [[buffer(0)]],
  const device float* signs [[buffer(1)]],
  const device int32_t* params [[buffer(2)]],
  device uint32_t* words [[buffer(3)]],
  device float16_t* scales [[buffer(4)]],
  uint simdgroup_index_in_threadgroup [[simdgroup_index_in_threadgroup]],
  uint thread_index_in_simdgroup [[thread_index_in_simdgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// One SIMD group a token: a lane holds coordinates lane, lane + 32, ... and shuffles for the rest.
// params: [0] tiles of a head
threadgroup uchar codes[32 * CODE_STRIDE];
const uint lane = thread_index_in_simdgroup;
const uint group = simdgroup_index_in_threadgroup;
const uint tile = threadgroup_position_in_grid.y * params[0] + threadgroup_position_in_grid.x;

for (uint token = group; token < 32; token += SIMDGROUPS) {
  const uint row = tile * 32 + token;
  float y[PER_LANE];
  float largest = 0.0f;
  bool finite = true;
  for (int r = 0; r < PER_LANE; ++r) {
    y[r] = float(x[row * HEAD_DIM + r * 32 + lane]);
    finite = finite && is_finite(y[r]);
    largest = max(largest, abs(y[r]));
  }
  largest = simd_max(largest);
  finite = simd_all(finite);

  // Divided by the largest first, so that no square overflows or vanishes.
  const bool nonzero = finite && largest >= SMALLEST;
  const float inverse = 1.0f / largest;
  float squares = 0.0f;
  for (int r = 0; r < PER_LANE; ++r) {
    y[r] = nonzero ? y[r] * inverse * signs[r * 32 + lane] : 0.0f;
    squares += y[r] * y[r];
  }
  squares = simd_sum(squares);
  hadamard_simd<M, POWER>(y, HADAMARD_ROWS, lane);

  // H y / ||y||: the rotated unit vector in standard deviations of a coordinate.
  const float unit = nonzero ? rsqrt(squares) : 0.0f;
  float length = 0.0f;
  for (int r = 0; r < PER_LANE; ++r) {
    const Nearest found = nearest(y[r] * unit);
    length += found.magnitude * found.magnitude;
    codes[token * CODE_STRIDE + r * 32 + lane] = uchar(found.code);
  }
  length = simd_sum(length);
  if (lane == 0) {
    scales[row] = stored_scale(nonzero ? largest * sqrt(squares / length) : 0.0f, finite);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
write_tile(codes, words + tile * TILE_WORDS, group * 32 + lane, SIMDGROUPS * 32);

}
