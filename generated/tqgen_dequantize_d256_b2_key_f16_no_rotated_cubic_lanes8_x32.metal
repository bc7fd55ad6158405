// dequantize:head_dim=256,bits=2,layout=key,dtype=float16,rotated=False,codebook=cubic,kv_heads=8,batch=1,context=4096
// lanes=8 at_once=32
// Written by `tqgen emit` from templates/; edits here are lost.

constexpr constant int HEAD_DIM = 256;
constexpr constant int BITS = 2;
constexpr constant int TILE_WORDS = 512;
constexpr constant int M = 1;
constexpr constant int POWER = 256;
constexpr constant int LANES = 8;  // that share a vector
constexpr constant int PER_LANE = 32;
constexpr constant int RUN = 8;  // neighbouring coordinates of a lane
constexpr constant int STAGED = 4;  // neighbouring codes that are staged at once
constexpr constant int CODE_STRIDE = 260;  // staged codes of a token: no two of a column share a bank
constexpr constant int AT_ONCE = 32;  // tokens that the threadgroup works on at a time
constexpr constant int THREADS = 256;

constant float CODEBOOK[4] = {
    -1.5078045f, -0.4526176f, 0.4526176f, 1.5078045f
};

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

// Rows of the transposed Hadamard matrix of order M: the inverse rotation.
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

// The BITS bits from bit index * BITS on of a stream whose words stand `stride` apart from words[0];
// the bits above them are not zero.
template <int BITS, typename Words>
inline uint window_at(Words words, int stride, int index) {
  const int bit = index * BITS;
  const int word = bit >> 5;
  const int shift = bit & 31;
  uint window = words[word * stride] >> shift;
  if (shift + BITS > 32) {
    window |= words[(word + 1) * stride] << (32 - shift);
  }
  return window;
}

constexpr constant int WINDOW = 8;  // codes of one stream that a thread unpacks at a time

// The words of a tile to its codes, token by token. Every thread of the threadgroup helps.
template <typename Words, typename Bytes>
inline void read_tile(Words words, Bytes codes, uint thread_id) {
  constexpr int STREAMS = 32;
  constexpr int LENGTH = HEAD_DIM;
  constexpr int FROM = CODE_STRIDE;  // from one stream's codes to the next one's
  constexpr int STEP = 1;
  for (int item = thread_id; item < STREAMS * LENGTH / WINDOW; item += THREADS) {
    const int stream = item % STREAMS;
    const int first = item / STREAMS;
    const uint window = window_at<WINDOW * BITS>(words + stream, STREAMS, first);
    const auto to = codes + stream * FROM + first * (WINDOW * STEP);
#pragma unroll
    for (int i = 0; i < WINDOW; ++i) {
      to[i * STEP] = uchar(window >> (i * BITS) & ((1u << BITS) - 1u));
    }
  }
}
[[kernel]] void custom_kernel_tqgen_dequantize_d256_b2_key_f16_no_rotated_cubic_lanes8_x32_2e7f13d59a_uint32_t_float16_t_float_int32_t_float16_t(
  const device uint32_t* words [[buffer(0)]],
  const device float16_t* scales [[buffer(1)]],
  const device float* signs [[buffer(2)]],
  const device int32_t* params [[buffer(3)]],
  device float16_t* out [[buffer(4)]],
  uint thread_index_in_threadgroup [[thread_index_in_threadgroup]],
  uint3 thread_position_in_threadgroup [[thread_position_in_threadgroup]],
  uint3 threadgroup_position_in_grid [[threadgroup_position_in_grid]]) {
// LANES lanes a vector, AT_ONCE vectors at a time; one threadgroup a tile.
// params: [0] tiles to read of a head, [1] tiles that a head has room for
threadgroup Codes codes[32 * CODE_STRIDE / STAGED];
threadgroup float table[1 << BITS];
const uint lane = thread_position_in_threadgroup.x;
const uint self = thread_index_in_threadgroup;
const uint head = threadgroup_position_in_grid.y;
const uint stored = head * params[1] + threadgroup_position_in_grid.x;
const uint row = (head * params[0] + threadgroup_position_in_grid.x) * 32;

for (int i = self; i < 1 << BITS; i += THREADS) {
  table[i] = CODEBOOK[i];
}
read_tile(words + stored * TILE_WORDS, codes[0].at, self);
threadgroup_barrier(mem_flags::mem_threadgroup);

for (uint token = thread_position_in_threadgroup.y; token < 32; token += AT_ONCE) {
  const float scale = float(scales[stored * 32 + token]) * rsqrt(float(HEAD_DIM));
  float y[PER_LANE];
#pragma unroll
  for (int i = 0; i < PER_LANE; i += STAGED) {
    const int first = (i / RUN * LANES + lane) * RUN + i % RUN;
    const Codes staged = codes[(token * CODE_STRIDE + first) / STAGED];
#pragma unroll
    for (int j = 0; j < STAGED; ++j) {
      y[i + j] = table[staged.at[j]];
    }
  }
  hadamard_lanes<M, POWER, LANES>(y, HADAMARD_ROWS, lane);
#pragma unroll
  for (int block = 0; block < PER_LANE / RUN; ++block) {
    const uint first = (block * LANES + lane) * RUN;
    const auto sign = load_run<float>(signs + first);
    Run<half> run;
#pragma unroll
    for (int i = 0; i < RUN; ++i) {
      run.at[i] = half(y[block * RUN + i] * (scale * sign.at[i]));
    }
    *(device Run<half>*)(out + (row + token) * HEAD_DIM + first) = run;
  }
}

}
