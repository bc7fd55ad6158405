// Atomics, relaxed, in threadgroup and device memory.

namespace metal {

enum memory_order { memory_order_relaxed };

template <typename T>
struct atomic {
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_float = atomic<float>;

template <typename T>
inline T atomic_load_explicit(const atomic<T>* a, memory_order) {
  return *const_cast<const volatile T*>(&a->value);
}

template <typename T>
inline void atomic_store_explicit(atomic<T>* a, given<T> x, memory_order) {
  ::atomicExch(&a->value, x);
}

#define METAL_ATOMIC(NAME, FUNCTION)                                           \
  template <typename T>                                                        \
  inline T atomic_##NAME##_explicit(atomic<T>* a, given<T> x, memory_order) {  \
    return FUNCTION(&a->value, x);                                             \
  }

METAL_ATOMIC(exchange, ::atomicExch)
METAL_ATOMIC(fetch_add, ::atomicAdd)
METAL_ATOMIC(fetch_sub, ::atomicSub)
METAL_ATOMIC(fetch_min, ::atomicMin)
METAL_ATOMIC(fetch_max, ::atomicMax)
METAL_ATOMIC(fetch_and, ::atomicAnd)
METAL_ATOMIC(fetch_or, ::atomicOr)
METAL_ATOMIC(fetch_xor, ::atomicXor)
#undef METAL_ATOMIC

}  // namespace metal
