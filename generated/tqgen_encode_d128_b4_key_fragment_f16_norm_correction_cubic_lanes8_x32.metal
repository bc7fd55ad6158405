// encode:head_dim=128,bits=4,layout=key_fragment,dtype=float16,norm_correction=True,codebook=cubic,kv_heads=8,batch=1,context=1024
// lanes=8 at_once=32
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 128;
constexpr constant int BITS = 4;
constexpr constant int WORDS = 16;  // of a token
constexpr constant int TILE_WORDS = 512;
constexpr constant int M = 1;
constexpr constant int POWER = 128;
constexpr constant int LANES = 8;  // that share a vector
constexpr constant int PER_LANE = 16;
constexpr constant int RUN = 8;  // neighbouring coordinates of a lane
constexpr constant int STAGED = 4;  // neighbouring codes that are staged at once
constexpr constant int CODE_STRIDE = 132;  // staged codes of a token: no two of a column share a bank
constexpr constant int AT_ONCE = 32;  // tokens that the threadgroup works on at a time

// The positive half of the codebook, in standard deviations of a coordinate, and halfway between.
constant float MAGNITUDES[8] = {
    0.12022451f, 0.36671647f, 0.6313372f, 0.92617273f, 1.2633088f, 1.6548313f,
    2.112826f, 2.649379f
};
constant float BOUNDARIES[7] = {
    0.24347049f, 0.49902686f, 0.77875495f, 1.0947407f, 1.45907f, 1.8838286f,
    2.3811026f
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

// LANES neighbouring lanes of a SIMD group share a vector: lane l of them holds runs l, l + LANES,
// l + 2 LANES, ... of RUN coordinates each, so that they load and store whole runs side by side.

template <typename T>
struct alignas(RUN * sizeof(T) < 16 ? RUN * sizeof(T) : 16) Run {
  T at[RUN];
};

// RUN numbers from device memory, by one load or two where their address allows it.
template <typename T, typename Source>
inline Run<T> load_run(Source from) {
  if ((ulong(from) & (alignof(Run<T>) - 1)) == 0) {
    return *(const device Run<T>*)from;
  }
  Run<T> run;
  for (int i = 0; i < RUN; ++i) {
    run.at[i] = from[i];
  }
  return run;
}

// Codes of a tile on their way through threadgroup memory, token by token.
struct alignas(STAGED) Codes {
  uchar at[STAGED];
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

// The Hadamard transform of order M * POWER, H_M kron H_POWER, by LANES neighbouring lanes of a SIMD
// group, as they share a vector (lanes.h).
template <int M, int POWER, int LANES, typename Vector, typename Rows>
inline void hadamard_lanes(Vector x, Rows rows, uint lane) {
  constexpr int PER_POWER = POWER / LANES;
#pragma unroll
  for (ushort distance = 1; distance < LANES; distance *= 2) {
    const float sign = (lane & distance) != 0 ? -1.0f : 1.0f;
#pragma unroll
    for (int r = 0; r < M * PER_POWER; ++r) {
      x[r] = simd_shuffle_xor(x[r], distance) + sign * x[r];
    }
  }
#pragma unroll
  for (int stage = 0; 1 << stage < PER_POWER; ++stage) {
#pragma unroll
    for (int pair = 0; pair < M * PER_POWER / 2; ++pair) {
      hadamard_pair(x, pair, stage);
    }
  }
  if (M > 1) {
#pragma unroll
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

// Over the lanes that share a vector.
inline float lanes_sum(float x) {
#pragma unroll
  for (ushort distance = 1; distance < LANES; distance *= 2) {
    x += simd_shuffle_xor(x, distance);
  }
  return x;
}

inline uint lanes_max(uint x) {
#pragma unroll
  for (ushort distance = 1; distance < LANES; distance *= 2) {
    x = max(x, simd_shuffle_xor(x, distance));
  }
  return x;
}

// The stored scale: fp16 ends at 65504; a token that was not finite says so.
inline half stored_scale(float scale, bool finite) {
  return finite ? half(min(scale, 65504.0f)) : as_type<half>(ushort(0x7e00));
}

// The codes of a tile, staged token by token, to its words. Every thread of the threadgroup helps.
template <typename Bytes, typename Words>
inline void write_tile(Bytes codes, Words words, uint thread_id) {
  // [unit, word][lane] of the fragments.
  for (int item = thread_id; item < TILE_WORDS; item += LANES * AT_ONCE) {
    words[item] = fragment_word<BITS, CODE_STRIDE, true>(codes, item);
  }
}
[[kernel]] void custom_kernel_tqgen_encode_d128_b4_key_fragment_f16_norm_correction_cubic_lanes8_x32_cd7ea20898_float16_t_float_int32_t_uint32_t_float16_t(
  const device float16_t* x [[buffer(0)]],
  const device float* signs [[buffer(1)]],
  const device int32_t* params [[buffer(2)]],
  device uint32_t* words [[buffer(3)]],
  device float16_t* scales [[buffer(4)]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// LANES lanes a vector, AT_ONCE vectors at a time; one threadgroup a tile.
// params: [0] tiles of a head
threadgroup Codes codes[32 * CODE_STRIDE / STAGED];
const uint lane = thread_position_in_threadgroup.x;
const uint tile = threadgroup_position_in_grid.y * params[0] + threadgroup_position_in_grid.x;

for (uint token = thread_position_in_threadgroup.y; token < 32; token += AT_ONCE) {
  const uint row = tile * 32 + token;
  float y[PER_LANE];
  uint bits = 0;  // of the largest magnitude: those of magnitudes are in their order, NaN last
#pragma unroll
  for (int block = 0; block < PER_LANE / RUN; ++block) {
    const auto run = load_run<half>(x + row * HEAD_DIM + (block * LANES + lane) * RUN);
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
      y[block * RUN + i] = float(run.at[i]);
      bits = max(bits, as_type<uint>(y[block * RUN + i]) & 0x7fffffffu);
    }
  }
  const float largest = as_type<float>(lanes_max(bits));
  const bool finite = is_finite(largest);

  // Divided by the largest first, so that no square overflows or vanishes.
  const bool nonzero = finite && largest >= SMALLEST;
  const float inverse = 1.0f / largest;
  float squares = 0.0f;
#pragma unroll
  for (int block = 0; block < PER_LANE / RUN; ++block) {
    const auto sign = load_run<float>(signs + (block * LANES + lane) * RUN);
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
      const float value = nonzero ? y[block * RUN + i] * inverse : 0.0f;
      squares += value * value;
      y[block * RUN + i] = value * sign.at[i];
    }
  }
  squares = lanes_sum(squares);
  hadamard_lanes<M, POWER, LANES>(y, HADAMARD_ROWS, lane);

  // H y / ||y||: the rotated unit vector in standard deviations of a coordinate.
  const float unit = nonzero ? rsqrt(squares) : 0.0f;
  float length = 0.0f;
#pragma unroll
  for (int i = 0; i < PER_LANE; i += STAGED) {
    Codes staged;
#pragma unroll
    for (int j = 0; j < STAGED; ++j) {
      const Nearest found = nearest(y[i + j] * unit);
      length += found.magnitude * found.magnitude;
      staged.at[j] = uchar(found.code);
    }
    const int first = (i / RUN * LANES + lane) * RUN + i % RUN;
    codes[(token * CODE_STRIDE + first) / STAGED] = staged;
  }
  length = lanes_sum(length);
  if (lane == 0) {
    scales[row] = stored_scale(nonzero ? largest * sqrt(squares / length) : 0.0f, finite);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
write_tile(codes[0].at, words + tile * TILE_WORDS, thread_index_in_threadgroup);

}
