// SIMD-group and quad-group functions. Each leaves its operand in the lane's slot and waits; the
// last lane to arrive computes the results of all active lanes.
#pragma once

#define TQ_LINE unsigned __line = __builtin_LINE()

namespace __tq {
enum what { reduction = 0, shuffle = 1, vote = 2, barrier = 3 };

template <typename T> TQ_FN __generic T& in(__generic tq_slot* s) { return *(__generic T*)s->in; }
template <typename T> TQ_FN __generic T& out(__generic tq_slot* s) { return *(__generic T*)s->out; }
TQ_FN bool active(uint mask, uint lane) { return lane < 32 && (mask >> lane & 1); }

// Half and bfloat sums are accumulated in their own type, lane by lane in butterfly order.
struct add { template <typename T> TQ_FN static T of(T a, T b) { return (T)(a + b); } };
struct mul { template <typename T> TQ_FN static T of(T a, T b) { return (T)(a * b); } };
struct least { template <typename T> TQ_FN static T of(T a, T b) { return metal::min(a, b); } };
struct most { template <typename T> TQ_FN static T of(T a, T b) { return metal::max(a, b); } };
struct bit_and { template <typename T> TQ_FN static T of(T a, T b) { return (T)(a & b); } };
struct bit_or { template <typename T> TQ_FN static T of(T a, T b) { return (T)(a | b); } };
struct bit_xor { template <typename T> TQ_FN static T of(T a, T b) { return (T)(a ^ b); } };

// Reduces groups of `width` lanes (32 or 4) by xor-butterfly over the active lanes.
template <typename T, typename Op, int width> TQ_COLD void reduce(uint mask, tq_slot* slots) {
  T value[32];
  bool has[32];
  for (int i = 0; i < 32; ++i) {
    has[i] = mask >> i & 1;
    if (has[i]) value[i] = in<T>(&slots[i]);
  }
  for (int step = 1; step < width; step *= 2)
    for (int i = 0; i < 32; i += 2 * step) {
      int j = i + step;
      if (has[i] && has[j])
        value[i] = Op::of(value[i], value[j]);
      else if (has[j])
        value[i] = value[j], has[i] = true;
    }
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) out<T>(&slots[i]) = value[i / width * width];
}

template <typename T, typename Op, bool inclusive, int width>
TQ_COLD void prefix(uint mask, tq_slot* slots) {
  for (int first = 0; first < 32; first += width) {
    bool any = false;
    T sum = (T)0;
    for (int i = first; i < first + width; ++i) {
      if (!(mask >> i & 1)) continue;
      T x = in<T>(&slots[i]);
      if (!inclusive) out<T>(&slots[i]) = any ? sum : (T)(__is_same(Op, mul) ? 1 : 0);
      sum = any ? Op::of(sum, x) : x;
      any = true;
      if (inclusive) out<T>(&slots[i]) = sum;
    }
  }
}

// Slots name the lane each value comes from.
template <typename T> TQ_COLD void permute(uint mask, tq_slot* slots) {
  for (uint i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    uint from = slots[i].index;
    if (!active(mask, from)) tq_inactive_lane(i, from);
    out<T>(&slots[i]) = in<T>(&slots[from & 31]);
  }
}
template <typename T> TQ_COLD void take_first(uint mask, tq_slot* slots) {
  T x = in<T>(&slots[__builtin_ctz(mask)]);
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) out<T>(&slots[i]) = x;
}
template <typename T> TQ_COLD void quad_take_first(uint mask, tq_slot* slots) {
  for (int q = 0; q < 32; q += 4) {
    uint lanes = mask >> q & 15;
    if (!lanes) continue;
    T x = in<T>(&slots[q + __builtin_ctz(lanes)]);
    for (int i = q; i < q + 4; ++i)
      if (mask >> i & 1) out<T>(&slots[i]) = x;
  }
}
TQ_COLD inline void ballot(uint mask, tq_slot* slots) {
  uint votes = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= (uint)(slots[i].in[0] & 1) << i;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) slots[i].out[0] = votes;
}

template <typename T> TQ_FN T wait(T x, tq_resolve resolve, uint line, uint kind) {
  tq_slot* s = tq_my_slot();
  in<T>(s) = x;
  tq_simd_wait(resolve, line, kind);
  return out<T>(s);
}
template <typename T> TQ_FN T from_lane(T x, uint lane, uint line) {
  tq_my_slot()->index = lane;
  return wait(x, permute<T>, line, shuffle);
}
TQ_FN uint votes(bool x, uint line, __private uint& mask) {
  tq_slot* s = tq_my_slot();
  s->in[0] = x;
  mask = tq_simd_wait(ballot, line, vote);
  return (uint)s->out[0];
}
TQ_FN uint lane() { return tq_thread & 31; }
}  // namespace __tq

namespace metal {
// Scalars that promote in Metal's overloads (bool, 8 and 16 bits) keep their own type here.
#define TQ_REDUCE(NAME, OP)                                                          \
  template <typename T> TQ_FN T simd_##NAME(T x, TQ_LINE) {                          \
    return __tq::wait(x, __tq::reduce<T, __tq::OP, 32>, __line, __tq::reduction);    \
  }                                                                                  \
  template <typename T> TQ_FN T quad_##NAME(T x, TQ_LINE) {                          \
    return __tq::wait(x, __tq::reduce<T, __tq::OP, 4>, __line, __tq::reduction);     \
  }
TQ_REDUCE(sum, add)
TQ_REDUCE(product, mul)
TQ_REDUCE(min, least)
TQ_REDUCE(max, most)
TQ_REDUCE(and, bit_and)
TQ_REDUCE(or, bit_or)
TQ_REDUCE(xor, bit_xor)
#define TQ_PREFIX(NAME, OP, INCLUSIVE)                                                       \
  template <typename T> TQ_FN T simd_prefix_##NAME(T x, TQ_LINE) {                           \
    return __tq::wait(x, __tq::prefix<T, __tq::OP, INCLUSIVE, 32>, __line, __tq::reduction); \
  }                                                                                          \
  template <typename T> TQ_FN T quad_prefix_##NAME(T x, TQ_LINE) {                           \
    return __tq::wait(x, __tq::prefix<T, __tq::OP, INCLUSIVE, 4>, __line, __tq::reduction);  \
  }
TQ_PREFIX(inclusive_sum, add, true)
TQ_PREFIX(exclusive_sum, add, false)
TQ_PREFIX(inclusive_product, mul, true)
TQ_PREFIX(exclusive_product, mul, false)

#define TQ_SHUFFLE(NAME, FROM)                                                    \
  template <typename T> TQ_FN T simd_##NAME(T x, ushort n, TQ_LINE) {             \
    uint me = __tq::lane();                                                       \
    return __tq::from_lane(x, FROM, __line);                                      \
  }
TQ_SHUFFLE(shuffle, n)
TQ_SHUFFLE(broadcast, n)
TQ_SHUFFLE(shuffle_xor, me ^ n)
TQ_SHUFFLE(shuffle_down, me + n < 32 ? me + n : me)
TQ_SHUFFLE(shuffle_up, me >= n ? me - n : me)
TQ_SHUFFLE(shuffle_rotate_down, (me + n) & 31)
TQ_SHUFFLE(shuffle_rotate_up, (me - n) & 31)
#define TQ_QUAD_SHUFFLE(NAME, FROM)                                               \
  template <typename T> TQ_FN T quad_##NAME(T x, ushort n, TQ_LINE) {             \
    uint base = __tq::lane() & ~3u, me = __tq::lane() & 3u;                       \
    return __tq::from_lane(x, base + (FROM), __line);                             \
  }
TQ_QUAD_SHUFFLE(shuffle, n)
TQ_QUAD_SHUFFLE(broadcast, n)
TQ_QUAD_SHUFFLE(shuffle_xor, (me ^ n) & 3)
TQ_QUAD_SHUFFLE(shuffle_down, me + n < 4 ? me + n : me)
TQ_QUAD_SHUFFLE(shuffle_up, me >= n ? me - n : me)
TQ_QUAD_SHUFFLE(shuffle_rotate_down, (me + n) & 3)
TQ_QUAD_SHUFFLE(shuffle_rotate_up, (me - n) & 3)

// Lanes past the end take the filling of the lane that many places from the other end.
template <typename T>
TQ_FN T simd_shuffle_and_fill_down(T x, T filling, ushort n, ushort modulo = 32, TQ_LINE) {
  uint me = __tq::lane(), base = me & ~(modulo - 1u), at = me - base + n;
  T inside = __tq::from_lane(x, at < modulo ? base + at : me, __line);
  T outside = __tq::from_lane(filling, at < modulo ? me : base + at - modulo, __line);
  return at < modulo ? inside : outside;
}
template <typename T>
TQ_FN T simd_shuffle_and_fill_up(T x, T filling, ushort n, ushort modulo = 32, TQ_LINE) {
  uint me = __tq::lane(), base = me & ~(modulo - 1u), at = me - base;
  T inside = __tq::from_lane(x, at >= n ? me - n : me, __line);
  T outside = __tq::from_lane(filling, at >= n ? me : base + at + modulo - n, __line);
  return at >= n ? inside : outside;
}
template <typename T>
TQ_FN T quad_shuffle_and_fill_down(T x, T filling, ushort n, ushort modulo = 4, TQ_LINE) {
  return simd_shuffle_and_fill_down(x, filling, n, modulo, __line);
}
template <typename T>
TQ_FN T quad_shuffle_and_fill_up(T x, T filling, ushort n, ushort modulo = 4, TQ_LINE) {
  return simd_shuffle_and_fill_up(x, filling, n, modulo, __line);
}
template <typename T> TQ_FN T simd_broadcast_first(T x, TQ_LINE) {
  return __tq::wait(x, __tq::take_first<T>, __line, __tq::shuffle);
}
template <typename T> TQ_FN T quad_broadcast_first(T x, TQ_LINE) {
  return __tq::wait(x, __tq::quad_take_first<T>, __line, __tq::shuffle);
}

struct simd_vote {
  typedef ulong vote_t;
  uint bits;
  uint lanes;
  constexpr simd_vote(vote_t v = 0) : bits((uint)v), lanes(~0u) {}
  constexpr simd_vote(uint v, uint l) : bits(v), lanes(l) {}
  constexpr explicit operator vote_t() const { return bits; }
  constexpr bool all() const { return (bits & lanes) == lanes; }
  constexpr bool any() const { return bits != 0; }
};
TQ_FN simd_vote simd_ballot(bool x, TQ_LINE) {
  uint mask, v = __tq::votes(x, __line, mask);
  return simd_vote(v, mask);
}
TQ_FN bool simd_all(bool x, TQ_LINE) {
  uint mask, v = __tq::votes(x, __line, mask);
  return v == mask;
}
TQ_FN bool simd_any(bool x, TQ_LINE) {
  uint mask;
  return __tq::votes(x, __line, mask) != 0;
}
TQ_FN simd_vote simd_active_threads_mask(TQ_LINE) {
  uint mask, v = __tq::votes(true, __line, mask);
  return simd_vote(v, mask);
}
TQ_FN bool simd_is_first(TQ_LINE) {
  uint mask;
  __tq::votes(true, __line, mask);
  return (uint)__builtin_ctz(mask) == __tq::lane();
}
TQ_FN bool simd_is_helper_thread() { return false; }
TQ_FN uint __quad_votes(bool x, uint line, __private uint& mask) {
  uint base = __tq::lane() & ~3u, v = __tq::votes(x, line, mask);
  mask = mask >> base & 15;
  return v >> base & 15;
}
TQ_FN bool quad_all(bool x, TQ_LINE) {
  uint mask, v = __quad_votes(x, __line, mask);
  return v == mask;
}
TQ_FN bool quad_any(bool x, TQ_LINE) {
  uint mask;
  return __quad_votes(x, __line, mask) != 0;
}
typedef simd_vote quad_vote;
TQ_FN quad_vote quad_ballot(bool x, TQ_LINE) {
  uint mask, v = __quad_votes(x, __line, mask);
  return quad_vote(v, mask);
}
TQ_FN quad_vote quad_active_threads_mask(TQ_LINE) {
  uint mask, v = __quad_votes(true, __line, mask);
  return quad_vote(v, mask);
}
TQ_FN bool quad_is_first(TQ_LINE) {
  uint mask;
  __quad_votes(true, __line, mask);
  return (uint)__builtin_ctz(mask) == (__tq::lane() & 3u);
}
TQ_FN bool quad_is_helper_thread() { return false; }

enum class mem_flags {
  mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4,
  mem_threadgroup_imageblock = 8, mem_device_and_threadgroup = 3
};
TQ_FN constexpr mem_flags operator|(mem_flags a, mem_flags b) {
  return (mem_flags)((int)a | (int)b);
}
TQ_FN constexpr mem_flags operator&(mem_flags a, mem_flags b) {
  return (mem_flags)((int)a & (int)b);
}
TQ_FN void threadgroup_barrier(mem_flags flags, TQ_LINE) {
  tq_threadgroup_barrier((uint)flags, __line);
}
TQ_FN void simdgroup_barrier(mem_flags flags, TQ_LINE) {
  tq_simdgroup_barrier((uint)flags, __line);
}
}  // namespace metal
