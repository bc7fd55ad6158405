// SIMD groups are warps. As in the emulator, all lanes of a SIMD group reach an operation together;
// the last SIMD group of a threadgroup may have fewer than 32 lanes, and only those take part.

namespace metal {

enum class mem_flags : int {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_texture = 4,
  mem_device_and_threadgroup = 3,
};
inline mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }

// Both order shared and global memory among the threads that they gather.
inline void threadgroup_barrier(mem_flags) { ::__syncthreads(); }
inline void simdgroup_barrier(mem_flags) { ::__syncwarp(); }

namespace warp {

constexpr bool FULL = THREADS_OF_A_THREADGROUP % 32 == 0;

inline uint thread() {
  return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

inline uint lane() {
  uint out;
  asm("mov.u32 %0, %%laneid;" : "=r"(out));
  return out;
}

// Lanes that this SIMD group has: they are always its first.
inline uint lanes() {
  return FULL ? 32 : ::min(32u, THREADS_OF_A_THREADGROUP - thread() / 32 * 32);
}

inline uint mask() { return FULL ? 0xffffffffu : 0xffffffffu >> (32 - lanes()); }

// Any type, word by word.
template <typename T, typename Shuffle>
inline T words(T x, Shuffle shuffle) {
  constexpr int COUNT = (sizeof(T) + 3) / 4;
  uint parts[COUNT] = {};
  memcpy(parts, &x, sizeof(T));
  for (int i = 0; i < COUNT; ++i) {
    parts[i] = shuffle(parts[i]);
  }
  memcpy(&x, parts, sizeof(T));
  return x;
}

// op over the lanes, the same in all: butterflies, or a tree where lanes are missing.
template <typename T, typename Op>
inline T reduce(T x, Op op) {
  const uint all = mask();
  if constexpr (FULL) {
    for (int distance = 16; distance > 0; distance /= 2) {
      x = op(x, words(x, [=](uint w) { return ::__shfl_xor_sync(all, w, distance); }));
    }
    return x;
  } else {
    for (int distance = 16; distance > 0; distance /= 2) {
      const T other = words(x, [=](uint w) { return ::__shfl_down_sync(all, w, distance); });
      x = lane() + distance < lanes() ? op(x, other) : x;
    }
    return words(x, [=](uint w) { return ::__shfl_sync(all, w, 0); });
  }
}

}  // namespace warp

template <typename T>
inline T simd_shuffle(T x, ushort lane) {
  return warp::words(x, [=](uint w) { return ::__shfl_sync(warp::mask(), w, lane); });
}

template <typename T>
inline T simd_shuffle_xor(T x, ushort distance) {
  return warp::words(x, [=](uint w) { return ::__shfl_xor_sync(warp::mask(), w, distance); });
}

template <typename T>
inline T simd_shuffle_up(T x, ushort distance) {
  return warp::words(x, [=](uint w) { return ::__shfl_up_sync(warp::mask(), w, distance); });
}

template <typename T>
inline T simd_shuffle_down(T x, ushort distance) {
  return warp::words(x, [=](uint w) { return ::__shfl_down_sync(warp::mask(), w, distance); });
}

template <typename T>
inline T simd_broadcast(T x, ushort lane) {
  return simd_shuffle(x, lane);
}

template <typename T>
inline T simd_broadcast_first(T x) {
  return simd_shuffle(x, 0);
}

template <typename T>
inline T simd_sum(T x) {
  return warp::reduce(x, [](T a, T b) { return a + b; });
}

template <typename T>
inline T simd_product(T x) {
  return warp::reduce(x, [](T a, T b) { return a * b; });
}

template <typename T>
inline T simd_max(T x) {
  return warp::reduce(x, [](T a, T b) { return max(a, b); });
}

template <typename T>
inline T simd_min(T x) {
  return warp::reduce(x, [](T a, T b) { return min(a, b); });
}

inline uint simd_and(uint x) { return ::__reduce_and_sync(warp::mask(), x); }
inline uint simd_or(uint x) { return ::__reduce_or_sync(warp::mask(), x); }
inline uint simd_xor(uint x) { return ::__reduce_xor_sync(warp::mask(), x); }
inline bool simd_all(bool x) { return ::__all_sync(warp::mask(), x); }
inline bool simd_any(bool x) { return ::__any_sync(warp::mask(), x); }
inline bool simd_is_first() { return warp::lane() == 0; }

template <typename T>
inline T simd_prefix_inclusive_sum(T x) {
  for (int distance = 1; distance < 32; distance *= 2) {
    const T below = simd_shuffle_up(x, distance);
    x = warp::lane() >= distance ? x + below : x;
  }
  return x;
}

template <typename T>
inline T simd_prefix_exclusive_sum(T x) {
  const T below = simd_shuffle_up(simd_prefix_inclusive_sum(x), 1);
  return warp::lane() == 0 ? T(0) : below;
}

template <typename T>
inline T quad_shuffle_xor(T x, ushort distance) {
  return simd_shuffle_xor(x, distance);
}

template <typename T>
inline T quad_broadcast(T x, ushort lane) {
  return simd_shuffle(x, ushort((warp::lane() & ~3u) + lane));
}

template <typename T>
inline T quad_sum(T x) {
  x = x + simd_shuffle_xor(x, 1);
  return x + simd_shuffle_xor(x, 2);
}

template <typename T>
inline T quad_max(T x) {
  x = max(x, simd_shuffle_xor(x, 1));
  return max(x, simd_shuffle_xor(x, 2));
}

}  // namespace metal
