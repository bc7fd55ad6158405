// Metal's scalar and vector types on clang's C++ for OpenCL: address spaces, half and vectors are the language's own.
#pragma once
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
#pragma OPENCL EXTENSION __cl_clang_function_pointers : enable
#pragma OPENCL EXTENSION __cl_clang_bitfields : enable

#define __METAL__ 1
#define __METAL_VERSION__ 310
#define __HAVE_BFLOAT__ 1
#define __HAVE_SIMDGROUP_MATRIX__ 1

#define device __global
#define threadgroup __local
#define constant __constant
#ifdef TQ_LAX_THREAD  // references returned from member functions: `thread` as the generic space
#define thread
#define TQ_THREAD __generic
#else
#define thread __private
#define TQ_THREAD __private
#endif
#define kernel
// Words of OpenCL that are ordinary names in Metal.
#define local __metal_local
#define global __metal_global
#define generic __metal_generic
#define pipe __metal_pipe
#define read_only __metal_read_only
#define write_only __metal_write_only
#define read_write __metal_read_write
#define uniform __metal_uniform
#define vec_step __metal_vec_step
#define event_t __metal_event_t
#define queue_t __metal_queue_t
#define METAL_FUNC inline __attribute__((always_inline))
#define METAL_CONST constant
#define METAL_ALWAYS_INLINE inline __attribute__((always_inline))

// Code of the prelude carries no debug lines: what is inlined takes the line of the author's call.
#define TQ_FN inline __attribute__((nodebug, always_inline))
#define TQ_COLD __attribute__((nodebug, noinline, no_sanitize("thread")))
#define TQ_EACH_SPACE(M) M(__global) M(__local) M(__constant)
#define TQ_EACH_WRITABLE_SPACE(M) M(__global) M(__local)

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef unsigned long size_t;
typedef long ptrdiff_t;
typedef long intptr_t;
typedef unsigned long uintptr_t;
typedef __bf16 bfloat;

#define NULL 0
#define TQ_VECTOR_TYPES(T)                              \
  typedef T T##2 __attribute__((ext_vector_type(2)));   \
  typedef T T##3 __attribute__((ext_vector_type(3)));   \
  typedef T T##4 __attribute__((ext_vector_type(4)));
TQ_VECTOR_TYPES(char)
TQ_VECTOR_TYPES(uchar)
TQ_VECTOR_TYPES(short)
TQ_VECTOR_TYPES(ushort)
TQ_VECTOR_TYPES(int)
TQ_VECTOR_TYPES(uint)
TQ_VECTOR_TYPES(long)
TQ_VECTOR_TYPES(ulong)
TQ_VECTOR_TYPES(half)
TQ_VECTOR_TYPES(float)
TQ_VECTOR_TYPES(bfloat)

namespace metal {
// The names are Metal's own in both places.
#define TQ_USING_VECTORS(T) using ::T##2; using ::T##3; using ::T##4;
TQ_USING_VECTORS(char) TQ_USING_VECTORS(uchar) TQ_USING_VECTORS(short) TQ_USING_VECTORS(ushort)
TQ_USING_VECTORS(int) TQ_USING_VECTORS(uint) TQ_USING_VECTORS(long) TQ_USING_VECTORS(ulong)
TQ_USING_VECTORS(half) TQ_USING_VECTORS(float) TQ_USING_VECTORS(bfloat)
using ::uchar; using ::ushort; using ::uint; using ::ulong; using ::bfloat;

template <typename T, int N> using vec = T __attribute__((ext_vector_type(N)));

typedef ::size_t size_t;
typedef ::ptrdiff_t ptrdiff_t;

// ---- type traits -------------------------------------------------------------------------------
template <typename T, T V> struct integral_constant {
  static constexpr __constant T value = V;
  typedef T value_type;
  constexpr operator T() const { return V; }
};
template <bool B> using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;
template <bool B, typename T = void> struct enable_if {};
template <typename T> struct enable_if<true, T> { typedef T type; };
template <bool B, typename T = void> using enable_if_t = typename enable_if<B, T>::type;
template <bool B, typename T, typename U> struct conditional { typedef T type; };
template <typename T, typename U> struct conditional<false, T, U> { typedef U type; };
template <bool B, typename T, typename U> using conditional_t = typename conditional<B, T, U>::type;
template <typename T> struct remove_const { typedef T type; };
template <typename T> struct remove_const<const T> { typedef T type; };
template <typename T> struct remove_volatile { typedef T type; };
template <typename T> struct remove_volatile<volatile T> { typedef T type; };
template <typename T> struct remove_reference { typedef T type; };
template <typename T> struct remove_reference<T&> { typedef T type; };
template <typename T> struct remove_reference<__private T&> { typedef T type; };
template <typename T> struct __bare { typedef typename remove_const<T>::type type; };
#define TQ_BARE(AS)                                                          \
  template <typename T> struct __bare<AS T> { typedef T type; };             \
  template <typename T> struct __bare<const AS T> { typedef T type; };       \
  template <typename T> struct __bare<AS T&> { typedef T type; };            \
  template <typename T> struct __bare<const AS T&> { typedef T type; };
TQ_BARE(__global)
TQ_BARE(__local)
TQ_BARE(__constant)
TQ_BARE(__private)
TQ_BARE(__generic)
template <typename T> struct remove_cv { typedef typename __bare<T>::type type; };
template <typename T> struct decay { typedef typename __bare<T>::type type; };
template <typename T> using remove_addrspace_t = typename __bare<T>::type;
template <typename T> using remove_cv_t = typename remove_cv<T>::type;
template <typename T> using remove_reference_t = typename remove_reference<T>::type;
template <typename T> using remove_const_t = typename remove_const<T>::type;
template <typename T> using decay_t = typename decay<T>::type;
template <typename T, typename U> struct is_same : false_type {};
template <typename T> struct is_same<T, T> : true_type {};
template <typename T, typename U> static constexpr __constant bool is_same_v = is_same<T, U>::value;
template <typename T> struct __is_float : false_type {};
template <> struct __is_float<float> : true_type {};
template <> struct __is_float<half> : true_type {};
template <> struct __is_float<bfloat> : true_type {};
template <typename T> struct is_floating_point : bool_constant<__is_float<typename __bare<T>::type>::value> {};
template <typename T> struct is_integral : bool_constant<__is_integral(typename __bare<T>::type)> {};
template <typename T> struct is_unsigned : bool_constant<__is_unsigned(typename __bare<T>::type)> {};
template <typename T> struct is_arithmetic
    : bool_constant<is_floating_point<T>::value || is_integral<T>::value> {};
template <typename T> struct is_signed : bool_constant<is_arithmetic<T>::value && !is_unsigned<T>::value> {};
template <typename T> struct is_enum : bool_constant<__is_enum(T)> {};
template <typename T> struct is_pointer : false_type {};
template <typename T> struct is_pointer<T*> : true_type {};
template <typename F, typename T> struct is_convertible : bool_constant<__is_convertible(F, T)> {};
template <typename B, typename D> struct is_base_of : bool_constant<__is_base_of(B, D)> {};
#define TQ_TRAIT_V(NAME) \
  template <typename T> static constexpr __constant bool NAME##_v = NAME<T>::value;
TQ_TRAIT_V(is_floating_point)
TQ_TRAIT_V(is_integral)
TQ_TRAIT_V(is_unsigned)
TQ_TRAIT_V(is_arithmetic)
TQ_TRAIT_V(is_signed)
TQ_TRAIT_V(is_pointer)
TQ_TRAIT_V(is_enum)
template <typename F, typename T>
static constexpr __constant bool is_convertible_v = is_convertible<F, T>::value;
template <typename T> struct make_unsigned { typedef T type; };
template <> struct make_unsigned<char> { typedef uchar type; };
template <> struct make_unsigned<signed char> { typedef uchar type; };
template <> struct make_unsigned<short> { typedef ushort type; };
template <> struct make_unsigned<int> { typedef uint type; };
template <> struct make_unsigned<long> { typedef ulong type; };
template <typename T> using make_unsigned_t = typename make_unsigned<T>::type;
template <typename T> struct make_signed { typedef T type; };
template <> struct make_signed<uchar> { typedef char type; };
template <> struct make_signed<ushort> { typedef short type; };
template <> struct make_signed<uint> { typedef int type; };
template <> struct make_signed<ulong> { typedef long type; };
template <typename T> using make_signed_t = typename make_signed<T>::type;
template <typename T> struct remove_pointer { typedef T type; };
template <typename T> struct remove_pointer<T*> { typedef T type; };
template <typename T> using remove_pointer_t = typename remove_pointer<T>::type;
template <typename T> struct is_const : false_type {};
template <typename T> struct is_const<const T> : true_type {};
template <typename T> struct is_void : is_same<typename remove_const<T>::type, void> {};
template <typename T> struct is_array : false_type {};
template <typename T, size_t N> struct is_array<T[N]> : true_type {};
template <typename T> struct is_lvalue_reference : false_type {};
template <typename T> struct is_lvalue_reference<T&> : true_type {};
template <typename T> struct is_reference : is_lvalue_reference<T> {};
template <typename T> struct is_fundamental : bool_constant<is_arithmetic<T>::value || is_void<T>::value> {};
template <typename T> struct is_class : bool_constant<__is_class(T)> {};
template <typename T> struct is_union : bool_constant<__is_union(T)> {};
template <typename T> struct is_scalar
    : bool_constant<is_arithmetic<T>::value || is_pointer<T>::value || is_enum<T>::value> {};
template <typename T> struct is_trivial : bool_constant<__is_trivial(T)> {};
template <typename T> struct is_trivially_copyable : bool_constant<__is_trivially_copyable(T)> {};
template <typename T, typename... A> struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
template <typename T> struct rank : integral_constant<size_t, 0> {};
template <typename T, size_t N> struct rank<T[N]> : integral_constant<size_t, rank<T>::value + 1> {};
template <typename T, unsigned I = 0> struct extent : integral_constant<size_t, 0> {};
template <typename T, size_t N> struct extent<T[N], 0> : integral_constant<size_t, N> {};
TQ_TRAIT_V(is_const) TQ_TRAIT_V(is_void) TQ_TRAIT_V(is_array) TQ_TRAIT_V(is_lvalue_reference)
TQ_TRAIT_V(is_reference) TQ_TRAIT_V(is_fundamental) TQ_TRAIT_V(is_class) TQ_TRAIT_V(is_union)
TQ_TRAIT_V(is_scalar) TQ_TRAIT_V(is_trivial) TQ_TRAIT_V(is_trivially_copyable)
template <typename T, typename... A>
static constexpr __constant bool is_constructible_v = is_constructible<T, A...>::value;
template <typename B, typename D>
static constexpr __constant bool is_base_of_v = is_base_of<B, D>::value;
template <typename T> static constexpr __constant size_t rank_v = rank<T>::value;
template <typename T> static constexpr __constant size_t extent_v = extent<T>::value;
template <typename... B> struct _disjunction : false_type {};
template <typename B, typename... R>
struct _disjunction<B, R...> : bool_constant<B::value || _disjunction<R...>::value> {};
template <typename... B> struct _conjunction : true_type {};
template <typename B, typename... R>
struct _conjunction<B, R...> : bool_constant<B::value && _conjunction<R...>::value> {};
template <typename... B> struct disjunction : _disjunction<B...> {};
template <typename... B> struct conjunction : _conjunction<B...> {};
template <typename B> struct negation : bool_constant<!B::value> {};
template <typename... B> static constexpr __constant bool disjunction_v = _disjunction<B...>::value;
template <typename... B> static constexpr __constant bool conjunction_v = _conjunction<B...>::value;
template <typename B> static constexpr __constant bool negation_v = !B::value;
template <typename T> TQ_FN constexpr T move(T x) { return x; }
#define TQ_SWAP(AS) \
  template <typename T> TQ_FN void swap(AS T& a, AS T& b) { T c = a; a = b; b = c; }
TQ_SWAP(__private) TQ_SWAP(__local) TQ_SWAP(__global)
template <typename T> using uniform = T;
template <typename T> TQ_FN constexpr T make_uniform(T x) { return x; }

// Lanes and element type of a scalar or a vector.
template <typename T> struct __shape { typedef T element; enum { lanes = 1 }; };
template <typename T> struct __vector_shape;
#define TQ_SHAPE(T, N) \
  template <> struct __shape<T##N> { typedef T element; enum { lanes = N }; };
#define TQ_SHAPES(T) TQ_SHAPE(T, 2) TQ_SHAPE(T, 3) TQ_SHAPE(T, 4)
TQ_SHAPES(char)
TQ_SHAPES(uchar)
TQ_SHAPES(short)
TQ_SHAPES(ushort)
TQ_SHAPES(int)
TQ_SHAPES(uint)
TQ_SHAPES(long)
TQ_SHAPES(ulong)
TQ_SHAPES(half)
TQ_SHAPES(float)
TQ_SHAPES(bfloat)
template <typename... A> struct __lanes { enum { value = 0 }; };
template <typename U, typename... R> struct __lanes<U, R...> {
  enum { value = (int)__shape<U>::lanes + (int)__lanes<R...>::value };
};
}  // namespace metal
#include "../limits.h"
namespace metal {
template <typename T, size_t N> struct array {
  T __elems[N];
  constexpr T operator[](size_t i) const { return __elems[i]; }
  constexpr T operator[](size_t i) const __constant { return __elems[i]; }
  constexpr __private T& operator[](size_t i) __private { return __elems[i]; }
  constexpr __local T& operator[](size_t i) __local { return __elems[i]; }
  constexpr __global T& operator[](size_t i) __global { return __elems[i]; }
  constexpr size_t size() const { return N; }
};

}  // namespace metal
#include "packed.h"
#include "bools.h"
namespace metal {
// ---- constructors: the rewriter turns `float4(a, b)` and `static_cast<T>(x)` into these --------
template <typename T, typename U> struct __convert {
  TQ_FN static constexpr T from(U x) { return (T)x; }
};
template <> struct __convert<bfloat, half> {
  TQ_FN static constexpr bfloat from(half x) { return (bfloat)(float)x; }
};
template <> struct __convert<half, bfloat> {
  TQ_FN static constexpr half from(bfloat x) { return (half)(float)x; }
};

template <typename T, typename U> TQ_FN void __fill(__private T& out, int at, U x) {
  typedef typename __shape<T>::element E;
  if constexpr (__shape<U>::lanes == 1) {
    out[at] = __convert<E, U>::from(x);
  } else {
#pragma unroll
    for (int i = 0; i < __shape<U>::lanes; ++i)
      out[at + i] = __convert<E, typename __shape<U>::element>::from(x[i]);
  }
}
template <typename T> TQ_FN void __fill_all(__private T&, int) {}
template <typename T, typename U, typename... R>
TQ_FN void __fill_all(__private T& out, int at, U x, R... rest) {
  __fill(out, at, x);
  __fill_all(out, at + __shape<U>::lanes, rest...);
}
template <typename T, typename... A> TQ_FN T __gather(A... a) {
  T out;
  __fill_all(out, 0, a...);
  return out;
}
template <typename T> struct __make_vector {
  TQ_FN static constexpr T make() { return (T)(0); }
  template <typename U> TQ_FN static constexpr T make(U x) {
    if constexpr (__shape<U>::lanes == 1) {
      return (T)(__convert<typename __shape<T>::element, U>::from(x));
    } else {
      static_assert((int)__shape<U>::lanes == (int)__shape<T>::lanes,
                    "a vector is made from a vector of another length");
      return __gather<T>(x);
    }
  }
  template <typename U, typename V, typename... R>
  TQ_FN static constexpr T make(U x, V y, R... rest) {
    static_assert((int)__lanes<U, V, R...>::value == (int)__shape<T>::lanes,
                  "the arguments of a vector constructor have too few or too many components");
    if constexpr ((int)__lanes<U, V, R...>::value == 2 + (int)sizeof...(R)) {
      typedef typename __shape<T>::element E;
      return T{__convert<E, U>::from(x), __convert<E, V>::from(y), __convert<E, R>::from(rest)...};
    } else {
      return __gather<T>(x, y, rest...);
    }
  }
};
}  // namespace metal

// `T(args...)` for any T: vectors by their components, everything else by its own constructor.
template <typename T, typename A> TQ_FN constexpr T __tq_make(A a) {
  typedef typename metal::__bare<T>::type B;
  if constexpr ((int)metal::__shape<B>::lanes > 1)
    return metal::__make_vector<B>::make(a);
  else if constexpr (metal::__is_float<B>::value)
    return metal::__convert<B, A>::from(a);
  else
    return static_cast<B>(a);
}
template <typename T, typename A, typename... R>
TQ_FN constexpr T __tq_make(A a, R... rest) {
  typedef typename metal::__bare<T>::type B;
  if constexpr ((int)metal::__shape<B>::lanes > 1)
    return metal::__make_vector<B>::make(a, rest...);
  else
    return B(a, rest...);
}
template <typename T, typename U> TQ_FN constexpr T as_type(U x) { return __builtin_bit_cast(T, x); }

// `reinterpret_cast<T&>(x)`: the same memory, in its own address space, as another type.
#define TQ_REINTERPRET(AS)                                                               \
  template <typename T, typename U>                                                      \
  TQ_FN AS typename metal::__bare<T>::type& __tq_reinterpret(AS U& x) {                  \
    return *(AS typename metal::__bare<T>::type*)&x;                                     \
  }                                                                                      \
  template <typename T, typename U>                                                      \
  TQ_FN const AS typename metal::__bare<T>::type& __tq_reinterpret(const AS U& x) {      \
    return *(const AS typename metal::__bare<T>::type*)&x;                               \
  }
TQ_REINTERPRET(__private)
TQ_REINTERPRET(__global)
TQ_REINTERPRET(__local)
TQ_REINTERPRET(__generic)
template <typename T, typename U>
TQ_FN const __constant typename metal::__bare<T>::type& __tq_reinterpret(const __constant U& x) {
  return *(const __constant typename metal::__bare<T>::type*)&x;
}

// `(T)x`, where a C-style cast does not convert: vectors to vectors of another element, half to bfloat.
template <typename T> struct __tq_cast {
  template <typename U> TQ_FN constexpr T operator->*(U x) const { return __tq_make<T>(x); }
};
// An operator before the cast binds to what stands for it: it waits for the operand.
#define TQ_CAST_AFTER(NAME, OP)                                                          \
  template <typename T> struct NAME {                                                    \
    template <typename U> TQ_FN constexpr auto operator->*(U x) const {                  \
      return OP __tq_make<T>(x);                                                         \
    }                                                                                    \
  };                                                                                     \
  template <typename T> TQ_FN constexpr NAME<T> operator OP(__tq_cast<T>) { return {}; }
TQ_CAST_AFTER(__tq_minus_cast, -)
TQ_CAST_AFTER(__tq_plus_cast, +)
TQ_CAST_AFTER(__tq_not_cast, !)
TQ_CAST_AFTER(__tq_invert_cast, ~)
// What a comparison of vectors yields here, lanes of 0 and -1, as Metal's vector of bool.
template <typename T> TQ_FN constexpr T __tq_bools(T x) { return x; }
#define TQ_BOOLS(T)                                              \
  TQ_FN bool2 __tq_bools(T##2 x) { return bool2(x); }            \
  TQ_FN bool3 __tq_bools(T##3 x) { return bool3(x); }            \
  TQ_FN bool4 __tq_bools(T##4 x) { return bool4(x); }
TQ_BOOLS(char) TQ_BOOLS(short) TQ_BOOLS(int) TQ_BOOLS(long)
// The scalar of a mixed operation in the type of the vector's elements.
template <typename V, typename S>
TQ_FN constexpr auto __tq_element(S x) {
  typedef typename metal::__bare<V>::type B;
  typedef typename metal::__shape<B>::element E;
  if constexpr ((int)metal::__shape<B>::lanes == 1 || (int)metal::__shape<S>::lanes > 1)
    return x;
  else
    return metal::__convert<E, S>::from(x);
}
