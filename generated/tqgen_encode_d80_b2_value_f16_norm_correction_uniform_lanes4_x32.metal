// encode:head_dim=80,bits=2,layout=value,dtype=float16,norm_correction=True,codebook=uniform,kv_heads=8,batch=1,context=1024
// lanes=4 at_once=32
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 80;
constexpr constant int BITS = 2;
constexpr constant int WORDS = 5;  // of a token
constexpr constant int TILE_WORDS = 160;
constexpr constant int M = 20;
constexpr constant int POWER = 4;
constexpr constant int LANES = 4;  // that share a vector
constexpr constant int PER_LANE = 20;
constexpr constant int RUN = 1;  // neighbouring coordinates of a lane
constexpr constant int STAGED = 1;  // neighbouring codes that are staged at once
constexpr constant int CODE_STRIDE = 84;  // staged codes of a token: no two of a column share a bank
constexpr constant int AT_ONCE = 32;  // tokens that the threadgroup works on at a time

// The positive half of the codebook, in standard deviations of a coordinate, and halfway between.
constant float MAGNITUDES[2] = {
    0.4956445f, 1.4869336f
};
constant float BOUNDARIES[1] = {
    0.991289f
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
  // [word][dim]: a lane that owns a dim walks its 32 tokens.
  for (int item = thread_id; item < BITS * HEAD_DIM; item += LANES * AT_ONCE) {
    const int word = item / HEAD_DIM;
    const int dim = item % HEAD_DIM;
    words[item] = pack_word<BITS>(codes + dim, CODE_STRIDE, 32, word);
  }
}
[[kernel]] void custom_kernel_tqgen_encode_d80_b2_value_f16_norm_correction_uniform_lanes4_x32_b4582724c6_float16_t_float_int32_t_uint32_t_float16_t(
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
