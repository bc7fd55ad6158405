// Metal's keywords and scalar types as CUDA: read after every CUDA header, before the Metal text.
// Two numbers are defined above: THREADS_OF_A_THREADGROUP, as the backend compiles once a threadgroup
// size, and THREADGROUPS_AT_ONCE, as the text asks for, or 1.

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
#define bfloat __nv_bfloat16

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fc00000)
#endif

// At most as many registers as so many threadgroups can have. It matters: with the number of threads
// alone the compiler aims at full occupancy, and spills kernels with long unrolled bodies.
#undef __global__
#define __global__ __attribute__((global)) __launch_bounds__(THREADS_OF_A_THREADGROUP, THREADGROUPS_AT_ONCE)

#define inline __device__ __forceinline__

namespace metal {

// The bits of x as another type of the same size.
template <typename To, typename From>
inline To as_type(From x) {
  static_assert(sizeof(To) == sizeof(From), "as_type is between types of one size");
  To out;
  memcpy(&out, &x, sizeof(To));
  return out;
}

template <typename T>
struct same_type {
  using type = T;
};

// T, but never deduced: the other argument says what it is.
template <typename T>
using given = typename same_type<T>::type;

}  // namespace metal

// 1.5h
inline __half operator""h(long double x) { return __float2half_rn(float(x)); }
