// metal:: functions of integers and their bits. Part of math.h, whose macros it uses.
#pragma once

namespace metal {
#define TQ_INTS(M)                                                                            \
  M(char, uchar) M(uchar, uchar) M(short, ushort) M(ushort, ushort) M(int, uint) M(uint, uint) \
  M(long, ulong) M(ulong, ulong)
#define TQ_BITS(T, U)                                                                         \
  TQ_FN constexpr T popcount(T x) { return (T)__builtin_popcountl((ulong)(U)x); }            \
  TQ_FN constexpr T clz(T x) {                                                                \
    return x ? (T)(__builtin_clzl((ulong)(U)x) - (64 - 8 * (int)sizeof(T))) : (T)(8 * sizeof(T)); \
  }                                                                                           \
  TQ_FN constexpr T ctz(T x) {                                                                \
    return x ? (T)__builtin_ctzl((ulong)(U)x) : (T)(8 * sizeof(T));                          \
  }                                                                                           \
  TQ_FN constexpr T reverse_bits(T x) {                                                       \
    return (T)(U)(__builtin_bitreverse64((ulong)(U)x) >> (64 - 8 * (int)sizeof(T)));          \
  }                                                                                           \
  TQ_FN constexpr T rotate(T x, T n) {                                                        \
    int b = 8 * (int)sizeof(T), k = (int)((U)n % (uint)b);                                    \
    return k ? (T)((U)((U)x << k) | (U)((U)x >> (b - k))) : x;                                \
  }                                                                                           \
  TQ_FN constexpr T extract_bits(T x, uint offset, uint bits) {                               \
    int b = 8 * (int)sizeof(T);                                                               \
    return bits == 0 ? (T)0                                                                   \
                     : (T)((T)((U)x << (b - (int)(offset + bits))) >> (b - (int)bits));       \
  }                                                                                           \
  TQ_FN constexpr T insert_bits(T base, T x, uint offset, uint bits) {                        \
    U mask = (U)((bits >= 8 * sizeof(T) ? (U)~(U)0 : (U)(((U)1 << bits) - 1)) << offset);     \
    return (T)(((U)base & (U)~mask) | (((U)x << offset) & mask));                             \
  }                                                                                           \
  TQ_FN constexpr T addsat(T x, T y) {                                                        \
    T r = 0;                                                                                  \
    if (!__builtin_add_overflow(x, y, &r)) return r;                                          \
    return (T)-1 < (T)0 && x < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();       \
  }                                                                                           \
  TQ_FN constexpr T subsat(T x, T y) {                                                        \
    T r = 0;                                                                                  \
    if (!__builtin_sub_overflow(x, y, &r)) return r;                                          \
    return (T)-1 < (T)0 && y > 0 ? numeric_limits<T>::min() : (T)-1 < (T)0                    \
        ? numeric_limits<T>::max() : (T)0;                                                    \
  }                                                                                           \
  TQ_FN constexpr U absdiff(T x, T y) { return x > y ? (U)((U)x - (U)y) : (U)((U)y - (U)x); } \
  TQ_FN constexpr T hadd(T x, T y) { return (T)((x >> 1) + (y >> 1) + (x & y & 1)); }         \
  TQ_FN constexpr T rhadd(T x, T y) { return (T)((x >> 1) + (y >> 1) + ((x | y) & 1)); }
TQ_INTS(TQ_BITS)
// The upper half of a product, and sums that stay within their type.
#define TQ_WIDE(T, WIDE)                                                                      \
  TQ_FN T mulhi(T x, T y) { return (T)(((WIDE)x * (WIDE)y) >> (8 * (int)sizeof(T))); }        \
  TQ_FN T madhi(T x, T y, T z) { return (T)(mulhi(x, y) + z); }                               \
  TQ_FN T madsat(T x, T y, T z) {                                                             \
    WIDE r = (WIDE)x * (WIDE)y + (WIDE)z;                                                     \
    WIDE least = (WIDE)numeric_limits<T>::min(), most = (WIDE)numeric_limits<T>::max();       \
    return (T)(r < least ? least : r > most ? most : r);                                      \
  }
TQ_WIDE(char, int) TQ_WIDE(uchar, int) TQ_WIDE(short, int) TQ_WIDE(ushort, long)
TQ_WIDE(int, long) TQ_WIDE(uint, ulong) TQ_WIDE(long, __int128) TQ_WIDE(ulong, unsigned __int128)
TQ_FN int mad24(int x, int y, int z) { return x * y + z; }
TQ_FN uint mad24(uint x, uint y, uint z) { return x * y + z; }
TQ_FN int mul24(int x, int y) { return x * y; }
TQ_FN uint mul24(uint x, uint y) { return x * y; }
#define TQ_LANES1(F) \
  template <typename T, int N> TQ_FN vec<T, N> F(vec<T, N> x) { \
    vec<T, N> r; _Pragma("unroll") for (int i = 0; i < N; ++i) r[i] = F((T)x[i]); return r; }
#define TQ_LANES2(F, R) \
  template <typename T, int N> TQ_FN vec<R, N> F(vec<T, N> x, vec<T, N> y) { \
    vec<R, N> r; _Pragma("unroll") for (int i = 0; i < N; ++i) r[i] = F((T)x[i], (T)y[i]); return r; }
#define TQ_LANES3(F) \
  template <typename T, int N> TQ_FN vec<T, N> F(vec<T, N> x, vec<T, N> y, vec<T, N> z) { \
    vec<T, N> r; \
    _Pragma("unroll") for (int i = 0; i < N; ++i) r[i] = F((T)x[i], (T)y[i], (T)z[i]); return r; }
TQ_LANES1(popcount) TQ_LANES1(clz) TQ_LANES1(ctz) TQ_LANES1(reverse_bits)
TQ_LANES2(rotate, T) TQ_LANES2(addsat, T) TQ_LANES2(subsat, T) TQ_LANES2(hadd, T) TQ_LANES2(rhadd, T)
TQ_LANES2(mulhi, T) TQ_LANES2(mul24, T) TQ_LANES2(absdiff, decltype(absdiff(T(), T())))
TQ_LANES3(madhi) TQ_LANES3(madsat) TQ_LANES3(mad24)
template <typename T, int N> TQ_FN vec<T, N> extract_bits(vec<T, N> x, uint offset, uint bits) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = extract_bits((T)x[i], offset, bits);
  return r;
}
template <typename T, int N>
TQ_FN vec<T, N> insert_bits(vec<T, N> base, vec<T, N> x, uint offset, uint bits) {
  vec<T, N> r;
  for (int i = 0; i < N; ++i) r[i] = insert_bits((T)base[i], (T)x[i], offset, bits);
  return r;
}
}  // namespace metal
