// metal::numeric_limits
#pragma once

namespace metal {
template <typename T> struct numeric_limits;
#define TQ_INT_LIMITS(T, MIN, MAX)                                                       \
  template <> struct numeric_limits<T> {                                                 \
    static constexpr __constant bool is_specialized = true;                              \
    static constexpr __constant bool is_integer = true;                                  \
    static constexpr __constant bool is_signed = (T)-1 < (T)0;                           \
    static constexpr __constant bool is_exact = true;                                    \
    static constexpr __constant bool has_infinity = false;                               \
    static constexpr __constant int radix = 2;                                           \
    static constexpr __constant int digits = sizeof(T) * 8 - ((T)-1 < (T)0);             \
    static constexpr __constant int digits10 = digits * 643 / 2136;                      \
    static constexpr T min() { return MIN; }                                             \
    static constexpr T max() { return MAX; }                                             \
    static constexpr T lowest() { return MIN; }                                          \
    static constexpr T infinity() { return 0; }                                          \
    static constexpr T epsilon() { return 0; }                                           \
  };
template <> struct numeric_limits<bool> {
  static constexpr __constant bool is_specialized = true;
  static constexpr __constant bool is_integer = true;
  static constexpr __constant bool is_signed = false;
  static constexpr __constant int digits = 1;
  static constexpr bool min() { return false; }
  static constexpr bool max() { return true; }
  static constexpr bool lowest() { return false; }
};
TQ_INT_LIMITS(char, -128, 127)
TQ_INT_LIMITS(signed char, -128, 127)
TQ_INT_LIMITS(uchar, 0, 255)
TQ_INT_LIMITS(short, -32768, 32767)
TQ_INT_LIMITS(ushort, 0, 65535)
TQ_INT_LIMITS(int, -2147483647 - 1, 2147483647)
TQ_INT_LIMITS(uint, 0, 4294967295u)
TQ_INT_LIMITS(long, -9223372036854775807l - 1, 9223372036854775807l)
TQ_INT_LIMITS(ulong, 0, 18446744073709551615ul)
#define TQ_FLOAT_LIMITS(T, BITS, MIN, MAX, EPS, DENORM, DIGITS, LEAST, MOST)             \
  template <> struct numeric_limits<T> {                                                 \
    static constexpr __constant bool is_specialized = true;                              \
    static constexpr __constant bool is_integer = false;                                 \
    static constexpr __constant bool is_signed = true;                                   \
    static constexpr __constant bool has_infinity = true;                                \
    static constexpr __constant bool has_quiet_NaN = true;                               \
    static constexpr __constant bool has_signaling_NaN = true;                           \
    static constexpr __constant bool is_exact = false;                                   \
    static constexpr __constant bool is_iec559 = true;                                   \
    static constexpr __constant int radix = 2;                                           \
    static constexpr __constant int digits = DIGITS;                                     \
    static constexpr __constant int digits10 = (DIGITS - 1) * 643 / 2136;                \
    static constexpr __constant int max_digits10 = 2 + DIGITS * 643 / 2136;              \
    static constexpr __constant int min_exponent = LEAST;                                \
    static constexpr __constant int max_exponent = MOST;                                 \
    static constexpr T round_error() { return (T)0.5f; }                                 \
    static constexpr T min() { return (T)(MIN); }                                        \
    static constexpr T max() { return (T)(MAX); }                                        \
    static constexpr T lowest() { return (T)(-(MAX)); }                                  \
    static constexpr T infinity() { return (T)__builtin_inff(); }                        \
    static constexpr T quiet_NaN() { return (T)__builtin_nanf(""); }                     \
    static constexpr T signaling_NaN() { return (T)__builtin_nanf(""); }                 \
    static constexpr T epsilon() { return (T)(EPS); }                                    \
    static constexpr T denorm_min() { return (T)(DENORM); }                              \
  };
TQ_FLOAT_LIMITS(float, uint, 0x1p-126f, 0x1.fffffep127f, 0x1p-23f, 0x1p-149f, 24, -125, 128)
TQ_FLOAT_LIMITS(half, ushort, 0x1p-14f, 65504.0f, 0x1p-10f, 0x1p-24f, 11, -13, 16)
TQ_FLOAT_LIMITS(bfloat, ushort, 0x1p-126f, 0x1.fep127f, 0x1p-7f, 0x1p-133f, 8, -125, 128)
}  // namespace metal
