// Metal's vector types: members, constructors, operators by element. CUDA's own have neither.

namespace metal {

template <typename T, int N>
struct vec;

template <typename T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  vec() = default;
  inline vec(T all) : x(all), y(all) {}
  inline vec(T a, T b) : x(a), y(b) {}
  template <typename U>
  inline explicit vec(vec<U, 2> v) : x(T(v.x)), y(T(v.y)) {}
  inline T& operator[](int i) { return (&x)[i]; }
  inline const T& operator[](int i) const { return (&x)[i]; }
};

template <typename T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  T x, y, z;
  vec() = default;
  inline vec(T all) : x(all), y(all), z(all) {}
  inline vec(T a, T b, T c) : x(a), y(b), z(c) {}
  template <typename U>
  inline explicit vec(vec<U, 3> v) : x(T(v.x)), y(T(v.y)), z(T(v.z)) {}
  inline T& operator[](int i) { return (&x)[i]; }
  inline const T& operator[](int i) const { return (&x)[i]; }
};

template <typename T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  vec() = default;
  inline vec(T all) : x(all), y(all), z(all), w(all) {}
  inline vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  inline vec(vec<T, 2> low, vec<T, 2> high) : x(low.x), y(low.y), z(high.x), w(high.y) {}
  template <typename U>
  inline explicit vec(vec<U, 4> v) : x(T(v.x)), y(T(v.y)), z(T(v.z)), w(T(v.w)) {}
  inline T& operator[](int i) { return (&x)[i]; }
  inline const T& operator[](int i) const { return (&x)[i]; }
};

#define METAL_BINARY(OP)                                              \
  template <typename T, int N>                                        \
  inline vec<T, N> operator OP(vec<T, N> a, vec<T, N> b) {            \
    for (int i = 0; i < N; ++i) {                                     \
      a[i] = a[i] OP b[i];                                            \
    }                                                                 \
    return a;                                                         \
  }                                                                   \
  template <typename T, int N>                                        \
  inline vec<T, N> operator OP(vec<T, N> a, given<T> b) {             \
    return a OP vec<T, N>(b);                                         \
  }                                                                   \
  template <typename T, int N>                                        \
  inline vec<T, N> operator OP(given<T> a, vec<T, N> b) {             \
    return vec<T, N>(a) OP b;                                         \
  }                                                                   \
  template <typename T, int N>                                        \
  inline vec<T, N>& operator OP##=(vec<T, N>& a, vec<T, N> b) {       \
    return a = a OP b;                                                \
  }                                                                   \
  template <typename T, int N>                                        \
  inline vec<T, N>& operator OP##=(vec<T, N>& a, given<T> b) {        \
    return a = a OP vec<T, N>(b);                                     \
  }

METAL_BINARY(+)
METAL_BINARY(-)
METAL_BINARY(*)
METAL_BINARY(/)
METAL_BINARY(%)
METAL_BINARY(&)
METAL_BINARY(|)
METAL_BINARY(^)
METAL_BINARY(<<)
METAL_BINARY(>>)
#undef METAL_BINARY

#define METAL_COMPARE(OP)                                             \
  template <typename T, int N>                                        \
  inline vec<bool, N> operator OP(vec<T, N> a, vec<T, N> b) {         \
    vec<bool, N> out;                                                 \
    for (int i = 0; i < N; ++i) {                                     \
      out[i] = a[i] OP b[i];                                          \
    }                                                                 \
    return out;                                                       \
  }                                                                   \
  template <typename T, int N>                                        \
  inline vec<bool, N> operator OP(vec<T, N> a, given<T> b) {          \
    return a OP vec<T, N>(b);                                         \
  }

METAL_COMPARE(<)
METAL_COMPARE(<=)
METAL_COMPARE(>)
METAL_COMPARE(>=)
METAL_COMPARE(==)
METAL_COMPARE(!=)
#undef METAL_COMPARE

template <typename T, int N>
inline vec<T, N> operator-(vec<T, N> a) {
  for (int i = 0; i < N; ++i) {
    a[i] = -a[i];
  }
  return a;
}

template <typename T, int N>
inline vec<T, N> operator~(vec<T, N> a) {
  for (int i = 0; i < N; ++i) {
    a[i] = ~a[i];
  }
  return a;
}

// Two halves at once in one register.
#define METAL_PACKED(OP, FUNCTION)                                                 \
  inline vec<__half, 2> operator OP(vec<__half, 2> a, vec<__half, 2> b) {          \
    return as_type<vec<__half, 2>>(                                                \
        FUNCTION(as_type<::__half2>(a), as_type<::__half2>(b)));                   \
  }

METAL_PACKED(+, __hadd2)
METAL_PACKED(-, __hsub2)
METAL_PACKED(*, __hmul2)
#undef METAL_PACKED

}  // namespace metal

#define float2 metal::vec<float, 2>
#define float3 metal::vec<float, 3>
#define float4 metal::vec<float, 4>
#define half2 metal::vec<__half, 2>
#define half3 metal::vec<__half, 3>
#define half4 metal::vec<__half, 4>
#define bfloat2 metal::vec<__nv_bfloat16, 2>
#define bfloat4 metal::vec<__nv_bfloat16, 4>
#define int2 metal::vec<int, 2>
#define int3 metal::vec<int, 3>
#define int4 metal::vec<int, 4>
#define uint2 metal::vec<unsigned int, 2>
#define uint3 metal::vec<unsigned int, 3>
#define uint4 metal::vec<unsigned int, 4>
#define short2 metal::vec<short, 2>
#define short4 metal::vec<short, 4>
#define ushort2 metal::vec<unsigned short, 2>
#define ushort4 metal::vec<unsigned short, 4>
#define char2 metal::vec<signed char, 2>
#define char4 metal::vec<signed char, 4>
#define uchar2 metal::vec<unsigned char, 2>
#define uchar3 metal::vec<unsigned char, 3>
#define uchar4 metal::vec<unsigned char, 4>
#define bool2 metal::vec<bool, 2>
#define bool4 metal::vec<bool, 4>
#define ulong2 metal::vec<unsigned long, 2>
