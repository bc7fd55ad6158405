// What compiled kernels call at every access.
#include "runtime.h"

#define CALLER (uint64_t)__builtin_return_address(0) - 1

namespace {
// Most accesses are of an input, or the first of an element of device memory: nothing to find.
constexpr uint64_t alignment(uint32_t bytes) { return bytes < 8 ? bytes - 1 : 7; }

template <uint32_t bytes> inline bool plain_read(void* p) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region >= region_bytes) return true;
  uint32_t slot = (uint32_t)(in_region >> slot_shift);
  Quick& q = quick[slot];
  uint64_t offset = in_region - q.begin;
  if (offset & alignment(bytes)) return false;
  if (offset < q.input_bytes && offset + bytes <= q.input_bytes) return true;
  if (q.cell_bytes != bytes || offset >= q.bytes || q.run || !slots[slot].initialised || pending.finding)
    return false;
  Access* r = q.reads + offset / bytes;
  if (r->time >= launch_start || q.writes[offset / bytes].time >= launch_start) return false;
  q.was_read = true;
  *r = {time_now, group_bits | tq_thread};
  return true;
}

inline bool untouched(const Quick& q, const Access* write) {
  return write->time < launch_start && (!q.was_read || q.reads[write - q.writes].time < launch_start);
}

template <uint32_t bytes> inline bool plain_write(void* p) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region >= region_bytes) return true;
  Quick& q = quick[in_region >> slot_shift];
  uint64_t offset = in_region - q.begin;
  if (offset & alignment(bytes) || q.cell_bytes != bytes || offset >= q.bytes || q.run || pending.finding)
    return false;
  Access* w = q.writes + offset / bytes;
  if (!untouched(q, w)) return false;
  ++q.written;
  *w = {time_now, group_bits | tq_thread};
  return true;
}

// The callbacks for aligned accesses: the type promises it, the address has to keep it.
__attribute__((noinline)) void aligned(void* p, uint32_t bytes, bool write, uint64_t pc) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region < region_bytes && in_region & (bytes < 8 ? bytes - 1 : 7)) {
    uint32_t slot = (uint32_t)(in_region >> slot_shift);
    if (Finding* f = report(misaligned, pc, 0, slot)) {
      locate(f, slot, (char*)p - slots[slot].start);
      f->other_pc = (uint64_t)p;
      f->extent = bytes;
    }
    stop_launch();
  }
  access<false>((uint64_t)p, bytes, !write, write, pc, 0);
}

}  // namespace

#define CALLBACKS(N)                                                                                \
  EXPORT void __tsan_read##N(void* p) {                                                             \
    if (!plain_read<N>(p)) aligned(p, N, false, CALLER);                                          \
  }                                                                                                 \
  EXPORT void __tsan_write##N(void* p) {                                                            \
    if (!plain_write<N>(p)) aligned(p, N, true, CALLER);                                            \
  }                                                                                                 \
  EXPORT void __tsan_unaligned_read##N(void* p) {                                                   \
    access<false>((uint64_t)p, N, true, false, CALLER, 0);                                          \
  }                                                                                                 \
  EXPORT void __tsan_unaligned_write##N(void* p) {                                                  \
    access<false>((uint64_t)p, N, false, true, CALLER, 0);                                          \
  }
CALLBACKS(1)
CALLBACKS(2)
CALLBACKS(4)
CALLBACKS(8)
CALLBACKS(16)
EXPORT void __tsan_init() {}
// g++ reports what has another size as a range.
EXPORT void __tsan_read_range(void* p, unsigned long n) {
  access<false>((uint64_t)p, (uint32_t)n, true, false, CALLER, 0);
}
EXPORT void __tsan_write_range(void* p, unsigned long n) {
  access<false>((uint64_t)p, (uint32_t)n, false, true, CALLER, 0);
}
// Copies of structures arrive as calls.
EXPORT void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  access<false>((uint64_t)from, (uint32_t)n, true, false, CALLER, 0);
  access<false>((uint64_t)to, (uint32_t)n, false, true, CALLER, 0);
  return memcpy(to, from, n);
}
EXPORT void* __tsan_memmove(void* to, const void* from, unsigned long n) {
  access<false>((uint64_t)from, (uint32_t)n, true, false, CALLER, 0);
  access<false>((uint64_t)to, (uint32_t)n, false, true, CALLER, 0);
  return memmove(to, from, n);
}
EXPORT void* __tsan_memset(void* to, int value, unsigned long n) {
  access<false>((uint64_t)to, (uint32_t)n, false, true, CALLER, 0);
  return memset(to, value, n);
}
