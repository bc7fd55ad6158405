// Conversions to half and bfloat that a compiler calls where the processor has no instruction.
#include <stdint.h>

#include "runtime.h"

#if defined(__clang__)
namespace {
uint32_t bits_of(float x) { return __builtin_bit_cast(uint32_t, x); }

uint16_t round_to_bfloat(float x) {
  uint32_t u = bits_of(x);
  if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

uint16_t round_to_half(float x) {
  uint32_t u = bits_of(x), sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
  if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (a >> 13 & 0x3ff));
  if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (a < 0x38800000) {  // subnormal: adding 0.5 rounds at the right bit
    float shifted = __builtin_bit_cast(float, a) + 0.5f;
    return (uint16_t)(sign | (bits_of(shifted) - 0x3f000000));
  }
  return (uint16_t)(sign | ((a + 0xfff + (a >> 13 & 1) - 0x38000000) >> 13));
}

float half_to_float(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, a = h & 0x7fff;
  if (a >= 0x7c00) return __builtin_bit_cast(float, sign | 0x7f800000 | (a & 0x3ff) << 13);
  if (a >= 0x400) return __builtin_bit_cast(float, sign | ((a << 13) + 0x38000000));
  float x = (float)a * 0x1p-24f;
  return sign ? -x : x;
}
}  // namespace

EXPORT __bf16 __truncsfbf2(float x) { return __builtin_bit_cast(__bf16, round_to_bfloat(x)); }
EXPORT __bf16 __truncdfbf2(double x) { return __builtin_bit_cast(__bf16, round_to_bfloat((float)x)); }
EXPORT _Float16 __truncsfhf2(float x) { return __builtin_bit_cast(_Float16, round_to_half(x)); }
EXPORT _Float16 __truncdfhf2(double x) { return __builtin_bit_cast(_Float16, round_to_half((float)x)); }
EXPORT float __extendhfsf2(_Float16 x) { return half_to_float(__builtin_bit_cast(uint16_t, x)); }
#endif
