// half as a class, for a g++ that has no type of 16 bits (before 12 on x86-64).
#pragma once

struct half {
  unsigned short bits;
  half() = default;
#define TQ_FROM_NUMBER(T) constexpr half(T x) : bits(rounded((float)x)) {}
  TQ_FROM_NUMBER(float) TQ_FROM_NUMBER(double) TQ_FROM_NUMBER(bool) TQ_FROM_NUMBER(char)
  TQ_FROM_NUMBER(int8_t) TQ_FROM_NUMBER(uchar) TQ_FROM_NUMBER(short) TQ_FROM_NUMBER(ushort)
  TQ_FROM_NUMBER(int) TQ_FROM_NUMBER(uint) TQ_FROM_NUMBER(long) TQ_FROM_NUMBER(ulong)
#undef TQ_FROM_NUMBER
  constexpr operator float() const {
    unsigned sign = (unsigned)(bits & 0x8000) << 16, a = bits & 0x7fff;
    if (a >= 0x7c00) return __builtin_bit_cast(float, sign | 0x7f800000 | (a & 0x3ff) << 13);
    if (a >= 0x400) return __builtin_bit_cast(float, sign | ((a << 13) + 0x38000000));
    float x = (float)a * 0x1p-24f;
    return sign ? -x : x;
  }

 private:
  static constexpr unsigned short rounded(float x) {
    unsigned u = __builtin_bit_cast(unsigned, x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (unsigned short)(sign | 0x7e00 | (a >> 13 & 0x3ff));
    if (a >= 0x477ff000) return (unsigned short)(sign | 0x7c00);
    if (a < 0x38800000) {  // subnormal: adding 0.5 rounds at the right bit
      float shifted = __builtin_bit_cast(float, a) + 0.5f;
      return (unsigned short)(sign | (__builtin_bit_cast(unsigned, shifted) - 0x3f000000));
    }
    return (unsigned short)(sign | ((a + 0xfff + (a >> 13 & 1) - 0x38000000) >> 13));
  }
};

// With a float the result is one, with an integer it is a half.
template <typename T> struct __with_half {};
#define TQ_WITH_HALF(T, RESULT) template <> struct __with_half<T> { typedef RESULT type; };
TQ_WITH_HALF(half, half) TQ_WITH_HALF(float, float) TQ_WITH_HALF(double, float)
TQ_WITH_HALF(bool, half) TQ_WITH_HALF(char, half) TQ_WITH_HALF(int8_t, half)
TQ_WITH_HALF(uchar, half) TQ_WITH_HALF(short, half) TQ_WITH_HALF(ushort, half)
TQ_WITH_HALF(int, half) TQ_WITH_HALF(uint, half) TQ_WITH_HALF(long, half) TQ_WITH_HALF(ulong, half)
#undef TQ_WITH_HALF
#define TQ_HALF_OPERATOR(OP)                                                              \
  constexpr half operator OP(half a, half b) { return (float)a OP(float) b; }             \
  template <typename T>                                                                   \
  constexpr typename __with_half<T>::type operator OP(half a, T b) {                      \
    return (float)a OP(float) b;                                                          \
  }                                                                                       \
  template <typename T>                                                                   \
  constexpr typename __with_half<T>::type operator OP(T a, half b) {                      \
    return (float)a OP(float) b;                                                          \
  }                                                                                       \
  template <typename T> inline half& operator OP##=(half& a, T b) {                       \
    return a = (half)((float)a OP(float) b);                                              \
  }
TQ_HALF_OPERATOR(+) TQ_HALF_OPERATOR(-) TQ_HALF_OPERATOR(*) TQ_HALF_OPERATOR(/)
#undef TQ_HALF_OPERATOR
constexpr half operator-(half a) { return -(float)a; }
constexpr half operator+(half a) { return a; }
inline half& operator++(half& a) { return a += 1; }
inline half& operator--(half& a) { return a -= 1; }
