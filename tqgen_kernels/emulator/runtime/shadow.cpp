// What happened to every piece of memory, and whether two accesses were ordered.
//
// Memory is cut into cells of the element's size. A cell knows its last writer and its last reader
// (several readers merge into one entry). Time is a counter that every barrier and every SIMD-group
// operation moves on; an earlier access of another thread is ordered if a barrier that orders that
// memory came after it.
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"

uint64_t last_access_pc;
uint32_t last_atomic_line;
bool need_finer_cells;

namespace {
struct Cell {
  uint32_t write_time, writer;
  uint32_t read_time, reader;
};
// Beside the thread (10 bits) and the low bits of its threadgroup's number:
enum : uint32_t { atomically = 1u << 31, several = 1u << 30, several_simds = 1u << 29 };
enum : uint32_t { hollow = 1u << 30 };  // of a writer: what it wrote was never computed
enum : uint32_t { thread_mask = 1023, identity = (1u << 29) - 1 };
enum { device = 0, local = 1 };

Cell* cells[max_slots];
uint64_t reserved[max_slots];  // cells
uint64_t written[max_slots];   // cells that this launch wrote
uint32_t grain[max_slots];     // log2 of the bytes of a cell

uint32_t time_now = 1;
uint32_t launch_start, group_start;
uint32_t ordered[2];                        // time of the last barrier for this memory
uint32_t any_barrier;                       // of the last barrier with whatever flags
uint32_t simd_ordered[max_simdgroups][2];   // the same within one SIMD-group
uint32_t simd_step[max_simdgroups];         // time of its last operation
uint32_t last_fence, group_fence;
bool forgotten;  // the clock ran over: what was written before is unknown

// A write that may repeat the value that another thread wrote.
struct {
  Finding* finding;
  char* address;
  uint32_t bytes;
  bool was_soft;
  unsigned char before[16];
} pending;

void forget_everything() {
  for (uint32_t i = 0; i < max_slots; ++i)
    if (cells[i]) madvise(cells[i], reserved[i] * sizeof(Cell), MADV_DONTNEED);
  time_now = 1;
}

bool make_cells(uint32_t slot, uint64_t bytes) {
  uint64_t n = (bytes >> grain[slot]) + 64;
  if (n <= reserved[slot]) return true;
  if (cells[slot]) munmap(cells[slot], reserved[slot] * sizeof(Cell));
  n += n / 2;
  void* p = mmap(0, n * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  cells[slot] = p == MAP_FAILED ? nullptr : (Cell*)p;
  reserved[slot] = cells[slot] ? n : 0;
  return cells[slot] != nullptr;
}

uint32_t log2_of(uint32_t bytes, uint32_t limit) {
  uint32_t n = 0;
  while (n < limit && (2u << n) <= bytes) ++n;
  return n;
}

__attribute__((noinline)) void outside(uint32_t slot, int64_t offset, uint32_t bytes, bool write,
                                       uint64_t pc, uint32_t line) {
  if (Finding* f = report(out_of_bounds, line ? 0 : pc, line, slot)) {
    locate(f, slot, offset);
    f->detail = write ? is_write : none;
  }
  stop_launch();
}

// The order of this access and an earlier one of another thread of the threadgroup.
enum Ordering { in_order, soft_lockstep, soft_flag, unordered };
inline Ordering order_of(uint32_t space, uint32_t time, uint32_t simd, bool same_simd) {
  if (time < ordered[space]) return in_order;
  if (same_simd && time < simd_ordered[simd][space]) return in_order;
  if (time < any_barrier) return soft_flag;
  if (same_simd && time < simd_step[simd]) return soft_lockstep;
  return unordered;
}

__attribute__((noinline)) void conflict(uint32_t slot, int64_t offset, uint32_t bytes, bool write,
                                        bool other_wrote, uint32_t other, Ordering how, bool groups,
                                        uint64_t pc, uint32_t line) {
  Finding* known = nullptr;
  uint32_t site = slot * 64 + (write ? 2 : 0) + (other_wrote ? 1 : 0) +
                  (how == unordered ? 4 : 0) + (groups ? 8 : 0);
  Finding* f = report(race, line ? 0 : pc, line, site, &known);
  if (f) {
    locate(f, slot, offset);
    f->detail = (write ? is_write : 0) | (other_wrote ? other_write : 0) |
                (groups ? across_groups : 0) |
                (how == soft_lockstep ? lockstep : how == soft_flag ? wrong_flag : 0);
    f->soft = how != unordered;
    f->other_thread = other & thread_mask;
    f->other_group = (other & identity) >> 10;
  } else if (known && known->detail & same_value) {
    f = known;  // so far both wrote the same; do they this time?
  }
  if (f && write && other_wrote && bytes <= sizeof pending.before && !pending.finding) {
    pending.finding = f;
    pending.address = slots[slot].start + offset;
    pending.bytes = bytes;
    pending.was_soft = how != unordered;
    memcpy(pending.before, pending.address, bytes);
  }
}

__attribute__((noinline)) void unwritten(uint32_t slot, int64_t offset, bool soft, uint64_t pc,
                                         uint32_t line) {
  if (Finding* f = report(uninitialised_read, line ? 0 : pc, line, slot * 2 + soft)) {
    locate(f, slot, offset);
    f->soft = soft;
  }
}

// The launch is repeated with cells of the size that this access needs.
__attribute__((noinline)) void finer_cells_for(uint32_t space, uint32_t bytes, uint64_t offset) {
  uint32_t wanted = 0;
  while (!((bytes | offset) >> wanted & 1)) ++wanted;
  (space == local ? launch.threadgroup_grain : launch.device_grain) = wanted;
  need_finer_cells = true;
  stop_launch();
}

template <bool atomic>
inline void access(uint64_t address, uint32_t bytes, bool read, bool write, uint64_t pc, uint32_t line) {
  uint64_t in_region = address - (uint64_t)region;
  if (in_region >= region_bytes || !bytes) return;
  if (pending.finding) shadow_settle();
  last_access_pc = pc;
  uint32_t slot = (uint32_t)(in_region >> slot_shift);
  const Slot& s = slots[slot];
  uint64_t offset = address - (uint64_t)s.start;
  if (offset + bytes > s.bytes || offset > s.bytes) outside(slot, (int64_t)offset, bytes, write, pc, line);
  if (!s.writable) {
    if (!write) return;
    if (Finding* f = report(write_to_input, line ? 0 : pc, line, slot)) locate(f, slot, (int64_t)offset);
    stop_launch();
  }
  uint32_t space = slot == threadgroup_slot ? local : device;
  if (space == local) {
    const Variable* v = variable_at(offset);
    if (!v || address + bytes > (uint64_t)v->start + v->bytes) {
      if (Finding* f = report(out_of_bounds, line ? 0 : pc, line, slot)) {
        locate(f, slot, (int64_t)offset);
        f->detail = write ? is_write : none;
      }
      stop_launch();
    }
  }
  uint32_t shift = grain[slot];
  if (bytes < (1u << shift) || (offset & ((1u << shift) - 1))) {
    finer_cells_for(space, bytes, offset);
  }
  uint32_t me = (group_index << 10 | tq_thread) & identity, simd = tq_thread >> 5;
  uint32_t since = space == local ? group_start : launch_start;
  Cell* c = cells[slot] + (offset >> shift);
  Cell* end = c + (bytes >> shift);
  for (; c != end; ++c) {
    uint32_t wt = c->write_time;
    if (wt >= since) {
      uint32_t other = c->writer;
      if ((other & identity) != me && !(atomic && other & atomically)) {
        if (wt < group_start) {
          if (!(wt < last_fence && group_fence))
            conflict(slot, (int64_t)offset, bytes, write, true, other, unordered, true, pc, line);
        } else {
          Ordering how = order_of(space, wt, simd, (other & thread_mask) >> 5 == simd);
          if (how != in_order)
            conflict(slot, (int64_t)offset, bytes, write, true, other, how, false, pc, line);
        }
      }
    } else if (read && !s.initialised && !forgotten) {
      unwritten(slot, (int64_t)offset, false, pc, line);
    }
    if (read && wt >= since && c->writer & hollow) unwritten(slot, (int64_t)offset, true, pc, line);
    if (write) {
      uint32_t rt = c->read_time;
      if (rt >= since) {
        uint32_t other = c->reader;
        bool another = (other & identity) != me || other & (several | several_simds);
        if (another && !(atomic && other & atomically)) {
          if (rt < group_start) {
            if (!(rt < last_fence && group_fence))
              conflict(slot, (int64_t)offset, bytes, true, false, other, unordered, true, pc, line);
          } else {
            bool same = !(other & several_simds) && (other & thread_mask) >> 5 == simd;
            Ordering how = order_of(space, rt, simd, same);
            if (how != in_order)
              conflict(slot, (int64_t)offset, bytes, true, false, other, how, false, pc, line);
          }
        }
      }
      written[slot] += wt < launch_start;
      c->write_time = time_now;
      c->writer = me | (atomic ? atomically : 0);
    }
    if (read) {
      uint32_t rt = c->read_time, other = c->reader, mark = atomic ? atomically : 0;
      if (rt >= since && (other & identity) != me) {
        // Not ordered before this read: a later write has to be ordered after both.
        bool same = rt >= group_start && (other & thread_mask) >> 5 == simd;
        if (rt < group_start || order_of(space, rt, simd, same) != in_order)
          mark = (mark & other & atomically) | several | (same ? other & several_simds : several_simds);
      } else if (rt >= since) {
        // Its own read again: others that merged into the entry count until a barrier orders them.
        bool ordered_by_now =
            rt >= group_start && order_of(space, rt, simd, !(other & several_simds)) == in_order;
        mark = (mark & other & atomically) | (ordered_by_now ? 0 : other & (several | several_simds));
      }
      c->read_time = time_now;
      c->reader = me | mark;
    }
  }
}

uint32_t never_written(uint32_t slot, uint64_t* first) {
  uint32_t count = 0;
  uint64_t n = slots[slot].bytes >> grain[slot];
  if (written[slot] == n) return 0;
  for (uint64_t i = 0; i < n; ++i)
    if (cells[slot][i].write_time < launch_start && !count++) *first = i << grain[slot];
  return count;
}
}  // namespace

void shadow_begin_launch() {
  need_finer_cells = false;
  last_atomic_line = 0;
  if (time_now > 0xC0000000u) forget_everything();
  forgotten = false;
  launch_start = ++time_now;
  last_fence = group_fence = 0;
  pending.finding = nullptr;
  for (uint32_t i = 0; i < max_slots; ++i) {
    written[i] = 0;
    uint32_t wanted = i == threadgroup_slot
                          ? launch.threadgroup_grain
                          : log2_of(slots[i].element, launch.device_grain);
    if (wanted != grain[i]) {  // cells of another size know nothing of these
      grain[i] = wanted;
      if (cells[i]) munmap(cells[i], reserved[i] * sizeof(Cell));
      cells[i] = nullptr;
      reserved[i] = 0;
    }
    if (slots[i].writable && !make_cells(i, slots[i].bytes)) stopped = true;
  }
}

void shadow_begin_group() {
  if (time_now > 0xF0000000u) {
    forget_everything();
    forgotten = true;
    launch_start = 0;
    last_fence = 0;
  }
  group_start = ++time_now;
  ordered[device] = ordered[local] = any_barrier = group_start;
  for (uint32_t i = 0; i < max_simdgroups; ++i)
    simd_ordered[i][device] = simd_ordered[i][local] = simd_step[i] = group_start;
  group_fence = 0;
}

void shadow_barrier(uint32_t flags) {
  shadow_settle();
  any_barrier = ++time_now;
  if (flags & 1) ordered[device] = time_now;
  if (flags & 2) ordered[local] = time_now;
}

void shadow_simd_step(uint32_t simd) {
  shadow_settle();
  simd_step[simd] = ++time_now;
}

void shadow_simd_barrier(uint32_t simd, uint32_t flags) {
  shadow_settle();
  simd_step[simd] = ++time_now;
  if (flags & 1) simd_ordered[simd][device] = time_now;
  if (flags & 2) simd_ordered[simd][local] = time_now;
}

// The pending write has happened by now: does it repeat what was there?
void shadow_settle() {
  if (!pending.finding) return;
  Finding* f = pending.finding;
  if (memcmp(pending.before, pending.address, pending.bytes) == 0) {
    f->detail |= same_value;
    f->soft = 1;
  } else {
    f->detail &= ~same_value;
    f->soft = pending.was_soft;
  }
  pending.finding = nullptr;
}

void shadow_end_launch() {
  shadow_settle();
  if (forgotten) return;
  for (uint32_t i = 0; i < launch.n_buffers; ++i) {
    if (!slots[i].writable || slots[i].initialised) continue;
    uint64_t first = 0;
    uint32_t count = never_written(i, &first);
    if (!count) continue;
    if (Finding* f = report(unwritten_output, 0, 0, i)) {
      locate(f, i, (int64_t)first);
      f->soft = 1;
      f->count = count;
    }
  }
}

EXPORT void tq_fence(unsigned flags) {
  if (flags & 1) last_fence = group_fence = ++time_now;
}

EXPORT void tq_atomic_access(const void* p, unsigned bytes, unsigned writes, unsigned line) {
  // 0: load, 1: read-modify-write, 2: store
  last_atomic_line = line;
  access<true>((uint64_t)p, bytes, writes != 2, writes != 0, (uint64_t)__builtin_return_address(0), line);
}

// Threadgroup memory now holds what was never computed. A copy of it may be all that is read there.
EXPORT void tq_unwritten_stored(const void* p, uint64_t bytes, const char* name) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region >= region_bytes) return;
  uint32_t slot = (uint32_t)(in_region >> slot_shift);
  if (slot != threadgroup_slot) {
    uint64_t pc = (uint64_t)__builtin_return_address(0) - 1;
    if (Finding* f = report(uninitialised_read, pc, 0, 0)) {
      f->space = thread_space;
      f->name = name;
    }
    return;
  }
  uint64_t offset = (uint64_t)p - (uint64_t)slots[slot].start;
  for (uint64_t at = offset; at < offset + bytes; at += 1ull << grain[slot])
    cells[slot][at >> grain[slot]].writer |= hollow;
}

#define CALLER (uint64_t)__builtin_return_address(0) - 1
// Most accesses are of an input, or the first of an element of device memory: nothing to find.
inline bool plain(void* p, uint32_t bytes, bool write) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region >= region_bytes) return true;
  uint32_t slot = (uint32_t)(in_region >> slot_shift);
  const Slot& s = slots[slot];
  uint64_t offset = (uint64_t)p - (uint64_t)s.start;
  if (offset + bytes > s.bytes || offset > s.bytes || offset & (bytes < 8 ? bytes - 1 : 7)) return false;
  if (!s.writable) return !write;
  uint32_t shift = grain[slot];
  if (slot == threadgroup_slot || bytes != 1u << shift || pending.finding) return false;
  Cell* c = cells[slot] + (offset >> shift);
  if (c->write_time >= launch_start || c->read_time >= launch_start) return false;
  uint32_t me = (group_index << 10 | tq_thread) & identity;
  if (write) {
    ++written[slot];
    c->write_time = time_now;
    c->writer = me;
  } else {
    if (!s.initialised) return false;
    c->read_time = time_now;
    c->reader = me;
  }
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

#define CALLBACKS(N)                                                                                \
  EXPORT void __tsan_read##N(void* p) {                                                             \
    if (!plain(p, N, false)) aligned(p, N, false, CALLER);                                          \
  }                                                                                                 \
  EXPORT void __tsan_write##N(void* p) {                                                            \
    if (!plain(p, N, true)) aligned(p, N, true, CALLER);                                            \
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
