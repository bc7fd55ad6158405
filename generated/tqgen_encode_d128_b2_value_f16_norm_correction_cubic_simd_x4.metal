// encode:head_dim=128,bits=2,layout=value,dtype=float16,norm_correction=True,codebook=cubic,kv_heads=8,batch=1,context=1024
// threads=simd at_once=4
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 128;
constexpr constant int CODE_STRIDE = 132;  // staged codes of a token: no two of a column share a bank
constexpr constant int BITS = 2;
constexpr constant int WORDS = 8;  // of a token
constexpr constant int TILE_WORDS = 256;
constexpr constant int M = 1;
constexpr constant int POWER = 128;

// The positive half of the codebook, in standard deviations of a coordinate, and halfway between.
constant float MAGNITUDES[2] = {
    0.45245326f, 1.505193f
};
constant float BOUNDARIES[1] = {
    0.9788231f
};

// Rows of the Hadamard matrix of order M.
constant uint HADAMARD_ROWS[1] = {
    0x0000001u
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
  // [word][dim]: a lane that owns a dim walks its 32 tokens.
  for (int item = thread_id; item < BITS * HEAD_DIM; item += threads) {
    const int word = item / HEAD_DIM;
    const int dim = item % HEAD_DIM;
    words[item] = pack_word<BITS>(codes + dim, CODE_STRIDE, 32, word);
  }
}

constexpr constant int SIMDGROUPS = 4;
constexpr constant int PER_LANE = HEAD_DIM / 32;
[[kernel]] void custom_kernel_tqgen_encode_d128_b2_value_f16_norm_correction_cubic_simd_x4_9b2e4539b5_float16_t_float_int32_t_uint32_t_float16_t(
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
