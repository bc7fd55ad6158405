// Vectors of floats between -1 or 0 and 1, packed into the bits of one integer.
#pragma once

namespace metal {
// What is no number becomes 0; the rest rounds to nearest, ties to even.
TQ_FN uint __to_unorm(float x, uint most) {
  return x != x ? 0u : (uint)rint(clamp(x, 0.0f, 1.0f) * (float)most);
}
TQ_FN uint __to_snorm(float x, uint most, uint mask) {
  return x != x ? 0u : (uint)(int)rint(clamp(x, -1.0f, 1.0f) * (float)most) & mask;
}
TQ_FN float __from_unorm(uint x, uint most) { return (float)x / (float)most; }
TQ_FN float __from_snorm(int x, uint most) { return max((float)x / (float)most, -1.0f); }

#define TQ_NORMALIZED(T)                                                                      \
  TQ_FN uint pack_##T##_to_unorm4x8(T##4 v) {                                                 \
    uint r = 0;                                                                               \
    for (int i = 0; i < 4; ++i) r |= __to_unorm((float)v[i], 255u) << (8 * i);                \
    return r;                                                                                 \
  }                                                                                           \
  TQ_FN uint pack_##T##_to_snorm4x8(T##4 v) {                                                 \
    uint r = 0;                                                                               \
    for (int i = 0; i < 4; ++i) r |= __to_snorm((float)v[i], 127u, 255u) << (8 * i);          \
    return r;                                                                                 \
  }                                                                                           \
  TQ_FN uint pack_##T##_to_unorm2x16(T##2 v) {                                                \
    return __to_unorm((float)v[0], 65535u) | __to_unorm((float)v[1], 65535u) << 16;           \
  }                                                                                           \
  TQ_FN uint pack_##T##_to_snorm2x16(T##2 v) {                                                \
    return __to_snorm((float)v[0], 32767u, 65535u)                                            \
         | __to_snorm((float)v[1], 32767u, 65535u) << 16;                                     \
  }                                                                                           \
  TQ_FN T##4 unpack_unorm4x8_to_##T(uint x) {                                                 \
    T##4 v;                                                                                   \
    for (int i = 0; i < 4; ++i) v[i] = (T)__from_unorm(x >> (8 * i) & 255u, 255u);            \
    return v;                                                                                 \
  }                                                                                           \
  TQ_FN T##4 unpack_snorm4x8_to_##T(uint x) {                                                 \
    T##4 v;                                                                                   \
    for (int i = 0; i < 4; ++i) v[i] = (T)__from_snorm((int8_t)(x >> (8 * i)), 127u);         \
    return v;                                                                                 \
  }                                                                                           \
  TQ_FN T##2 unpack_unorm2x16_to_##T(uint x) {                                                \
    T##2 v;                                                                                   \
    for (int i = 0; i < 2; ++i) v[i] = (T)__from_unorm(x >> (16 * i) & 65535u, 65535u);       \
    return v;                                                                                 \
  }                                                                                           \
  TQ_FN T##2 unpack_snorm2x16_to_##T(uint x) {                                                \
    T##2 v;                                                                                   \
    for (int i = 0; i < 2; ++i) v[i] = (T)__from_snorm((int16_t)(x >> (16 * i)), 32767u);     \
    return v;                                                                                 \
  }
TQ_NORMALIZED(float)
TQ_NORMALIZED(half)

// From the lowest bit up 10, 10, 10 and 2 bits; and colours, whose bytes follow the sRGB curve.
#define TQ_COLOURS(T)                                                                          \
  TQ_FN uint pack_##T##_to_unorm10a2(T##4 v) {                                                \
    return __to_unorm((float)v[0], 1023u) | __to_unorm((float)v[1], 1023u) << 10              \
         | __to_unorm((float)v[2], 1023u) << 20 | __to_unorm((float)v[3], 3u) << 30;          \
  }                                                                                           \
  TQ_FN T##4 unpack_unorm10a2_to_##T(uint x) {                                                \
    T##4 v;                                                                                   \
    for (int i = 0; i < 3; ++i) v[i] = (T)__from_unorm(x >> (10 * i) & 1023u, 1023u);         \
    v[3] = (T)__from_unorm(x >> 30, 3u);                                                      \
    return v;                                                                                 \
  }                                                                                           \
  TQ_FN uint pack_##T##_to_srgb_unorm4x8(T##4 v) {                                            \
    uint r = __to_unorm((float)v[3], 255u) << 24;                                             \
    for (int i = 0; i < 3; ++i) r |= __to_unorm(__to_srgb((float)v[i]), 255u) << (8 * i);     \
    return r;                                                                                 \
  }                                                                                           \
  TQ_FN T##4 unpack_unorm4x8_srgb_to_##T(uint x) {                                            \
    T##4 v;                                                                                   \
    for (int i = 0; i < 3; ++i)                                                               \
      v[i] = (T)__from_srgb(__from_unorm(x >> (8 * i) & 255u, 255u));                         \
    v[3] = (T)__from_unorm(x >> 24, 255u);                                                    \
    return v;                                                                                 \
  }
TQ_FN float __to_srgb(float x) {
  return x <= 0.0031308f ? 12.92f * x : 1.055f * pow(x, 1.0f / 2.4f) - 0.055f;
}
TQ_FN float __from_srgb(float x) {
  return x <= 0.04045f ? x / 12.92f : pow((x + 0.055f) / 1.055f, 2.4f);
}
TQ_COLOURS(float)
TQ_COLOURS(half)

// From the lowest bit up 5, 6 and 5 bits.
#define TQ_565(T)                                                                             \
  TQ_FN ushort pack_##T##_to_unorm565(T##3 v) {                                               \
    return (ushort)(__to_unorm((float)v[0], 31u) | __to_unorm((float)v[1], 63u) << 5          \
                    | __to_unorm((float)v[2], 31u) << 11);                                    \
  }                                                                                           \
  TQ_FN T##3 unpack_unorm565_to_##T(ushort x) {                                               \
    T##3 v;                                                                                   \
    v[0] = (T)__from_unorm(x & 31u, 31u);                                                     \
    v[1] = (T)__from_unorm(x >> 5 & 63u, 63u);                                                \
    v[2] = (T)__from_unorm((uint)x >> 11, 31u);                                               \
    return v;                                                                                 \
  }
TQ_565(float)
TQ_565(half)
}  // namespace metal
