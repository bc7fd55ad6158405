// Atomics. Threads switch only where Metal lets them wait, so plain operations are atomic here; the
// detectors are told apart from plain accesses.
#pragma once

#ifdef TQ_CHECKED
#define TQ_ATOMIC_FN inline __attribute__((nodebug, noinline, no_sanitize("thread", "alignment")))
#define TQ_ATOMIC_NOTE(P, WRITES) tq_atomic_access((const void*)(P), sizeof(*(P)), WRITES, __line)
#else
#define TQ_ATOMIC_FN TQ_FN
#define TQ_ATOMIC_NOTE(P, WRITES)
#endif

namespace metal {
enum memory_order {
  memory_order_relaxed = 0, memory_order_acquire, memory_order_release, memory_order_acq_rel,
  memory_order_seq_cst
};
enum thread_scope {
  thread_scope_thread = 0, thread_scope_threadgroup, thread_scope_device, thread_scope_simdgroup
};

template <typename T> struct atomic {
  T __value;
};
template <typename T> struct _atomic {
  T __value;
};
// OpenCL has types of these names in the global scope.
#define atomic_int __metal_atomic_int
#define atomic_uint __metal_atomic_uint
#define atomic_float __metal_atomic_float
#define atomic_ulong __metal_atomic_ulong
#define atomic_bool __metal_atomic_bool
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

template <typename T> struct __same { typedef T type; };

// One set for each address space: `AS` is where the object lives.
#define TQ_ATOMIC_FETCH(AS, NAME, EXPR)                                                        \
  template <typename T>                                                                       \
  TQ_ATOMIC_FN T atomic_fetch_##NAME##_explicit(volatile AS atomic<T>* p,                      \
                                                typename __same<T>::type x,                   \
                                                memory_order = memory_order_relaxed, TQ_LINE) { \
    TQ_ATOMIC_NOTE(p, 1);                                                                     \
    T old = p->__value;                                                                       \
    p->__value = (T)(EXPR);                                                                   \
    return old;                                                                               \
  }
#define TQ_ATOMICS(AS)                                                                         \
  template <typename T>                                                                       \
  TQ_ATOMIC_FN T atomic_load_explicit(const volatile AS atomic<T>* p,                          \
                                      memory_order = memory_order_relaxed, TQ_LINE) {          \
    TQ_ATOMIC_NOTE(p, 0);                                                                     \
    return p->__value;                                                                        \
  }                                                                                           \
  template <typename T>                                                                       \
  TQ_ATOMIC_FN void atomic_store_explicit(volatile AS atomic<T>* p,                            \
                                          typename __same<T>::type x,                         \
                                          memory_order = memory_order_relaxed, TQ_LINE) {      \
    TQ_ATOMIC_NOTE(p, 2);                                                                     \
    p->__value = x;                                                                           \
  }                                                                                           \
  template <typename T>                                                                       \
  TQ_ATOMIC_FN T atomic_exchange_explicit(volatile AS atomic<T>* p,                            \
                                          typename __same<T>::type x,                         \
                                          memory_order = memory_order_relaxed, TQ_LINE) {      \
    TQ_ATOMIC_NOTE(p, 1);                                                                     \
    T old = p->__value;                                                                       \
    p->__value = x;                                                                           \
    return old;                                                                               \
  }                                                                                           \
  template <typename T>                                                                       \
  TQ_ATOMIC_FN bool atomic_compare_exchange_weak_explicit(                                     \
      volatile AS atomic<T>* p, TQ_THREAD T* expected, typename __same<T>::type desired,      \
      memory_order = memory_order_relaxed, memory_order = memory_order_relaxed, TQ_LINE) {     \
    TQ_ATOMIC_NOTE(p, 1);                                                                     \
    T old = p->__value;                                                                       \
    bool same = __builtin_memcmp((const void*)&old, (const void*)expected, sizeof(T)) == 0;   \
    if (same) p->__value = desired;                                                           \
    *expected = old;                                                                          \
    return same;                                                                              \
  }                                                                                           \
  TQ_ATOMIC_FETCH(AS, add, old + x)                                                            \
  TQ_ATOMIC_FETCH(AS, sub, old - x)                                                            \
  TQ_ATOMIC_FETCH(AS, and, old & x)                                                            \
  TQ_ATOMIC_FETCH(AS, or, old | x)                                                             \
  TQ_ATOMIC_FETCH(AS, xor, old ^ x)                                                            \
  TQ_ATOMIC_FETCH(AS, min, x < old ? x : old)                                                  \
  TQ_ATOMIC_FETCH(AS, max, old < x ? x : old)
TQ_EACH_WRITABLE_SPACE(TQ_ATOMICS)
#undef TQ_ATOMICS
#undef TQ_ATOMIC_FETCH

TQ_FN void atomic_thread_fence(mem_flags flags, memory_order = memory_order_seq_cst,
                               thread_scope = thread_scope_device) {
  tq_fence((uint)flags);
}
}  // namespace metal
