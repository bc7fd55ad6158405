// What happened to every piece of memory, and whether two accesses were ordered.
//
// Memory is cut into cells of the element's size. Of a cell are known its last writer and its last
// reader (several readers merge into one entry). Time is a counter that every barrier and every SIMD-group
// operation moves on; an earlier access of another thread is ordered if a barrier that orders that
// memory came after it.
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"

uint64_t last_access_pc;
uint32_t last_atomic_line;
bool need_finer_cells;

namespace {
struct Access {
  uint32_t time, who;
};
// Beside the thread (10 bits) and the low bits of its threadgroup's number:
enum : uint32_t { atomically = 1u << 31, several = 1u << 30, several_simds = 1u << 29 };
// Of a writer: what it wrote was never computed; others wrote atomically, unordered, before it.
enum : uint32_t { hollow = 1u << 30, others_too = 1u << 29 };
enum : uint32_t { thread_mask = 1023, identity = (1u << 29) - 1 };
enum { device = 0, local = 1 };

// Of each cell the last write, and behind all of those the last read.
Access* writes[max_slots];
uint64_t reserved[max_slots];  // cells
uint32_t grain[max_slots];     // log2 of the bytes of a cell
uint32_t group_bits;           // of the running threadgroup, in `who`

// What the plain accesses need to know of a slot.
struct Quick {
  uint64_t begin;        // in the region
  uint64_t input_bytes;  // 0 of what can be written
  uint64_t bytes;        // whole cells of device memory that can be written, else 0
  uint64_t cell_bytes;
  Access *writes, *reads;
  uint64_t written;  // cells that this launch wrote
  bool was_read;     // by this launch
  tq_site* run;      // of writes that are not in the cells yet: see runs.cpp
};
Quick quick[max_slots];
void end_run(Quick& q);
void end_runs();
void forget_sites();

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
    if (writes[i]) madvise(writes[i], 2 * reserved[i] * sizeof(Access), MADV_DONTNEED);
  time_now = 1;
}

void forget_cells(uint32_t slot) {
  if (writes[slot]) munmap(writes[slot], 2 * reserved[slot] * sizeof(Access));
  writes[slot] = nullptr;
  reserved[slot] = 0;
}

bool make_cells(uint32_t slot, uint64_t bytes) {
  uint64_t n = (bytes >> grain[slot]) + 64;
  if (n <= reserved[slot]) return true;
  forget_cells(slot);
  n += n / 2;
  void* p = mmap(0, 2 * n * sizeof(Access), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  writes[slot] = (Access*)p;
  reserved[slot] = n;
  return true;
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
    if ((other & identity) == (group_bits | tq_thread)) f->detail |= several_others;
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
  if (quick[slot].run) end_run(quick[slot]);
  uint32_t shift = grain[slot];
  if (bytes < (1u << shift) || (offset & ((1u << shift) - 1))) {
    finer_cells_for(space, bytes, offset);
  }
  uint32_t me = group_bits | tq_thread, simd = tq_thread >> 5;
  uint32_t since = space == local ? group_start : launch_start;
  quick[slot].was_read |= read;
  Access* w = writes[slot] + (offset >> shift);
  Access* r = w + reserved[slot];
  for (Access* end = w + (bytes >> shift); w != end; ++w, ++r) {
    uint32_t wt = w->time;
    if (wt >= since) {
      uint32_t other = w->who;
      bool another = (other & identity) != me || other & others_too;
      if (another && !(atomic && other & atomically)) {
        if (wt < group_start) {
          if (!(wt < last_fence && group_fence))
            conflict(slot, (int64_t)offset, bytes, write, true, other, unordered, true, pc, line);
        } else {
          bool same = !(other & others_too) && (other & thread_mask) >> 5 == simd;
          Ordering how = order_of(space, wt, simd, same);
          if (how != in_order)
            conflict(slot, (int64_t)offset, bytes, write, true, other, how, false, pc, line);
        }
      }
    } else if (read && !s.initialised && !forgotten) {
      unwritten(slot, (int64_t)offset, false, pc, line);
    }
    if (read && wt >= since && w->who & hollow) unwritten(slot, (int64_t)offset, true, pc, line);
    if (write) {
      uint32_t rt = r->time;
      if (rt >= since) {
        uint32_t other = r->who;
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
      quick[slot].written += wt < launch_start;
      uint32_t mark = atomic ? atomically : 0;
      if (atomic && wt >= since && w->who & atomically &&
          ((w->who & identity) != me || w->who & others_too) &&
          (wt < group_start || order_of(space, wt, simd, false) != in_order))
        mark |= others_too;
      *w = {time_now, me | mark};
    }
    if (read) {
      uint32_t rt = r->time, other = r->who, mark = atomic ? atomically : 0;
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
      *r = {time_now, me | mark};
    }
  }
}

uint32_t never_written(uint32_t slot, uint64_t* first) {
  uint32_t count = 0;
  uint64_t n = slots[slot].bytes >> grain[slot];
  if (quick[slot].written == n) return 0;
  for (uint64_t i = 0; i < n; ++i)
    if (writes[slot][i].time < launch_start && !count++) *first = i << grain[slot];
  return count;
}
}  // namespace

void shadow_begin_launch() {
  need_finer_cells = false;
  forget_sites();
  last_atomic_line = 0;
  if (time_now > 0xC0000000u) forget_everything();
  forgotten = false;
  launch_start = ++time_now;
  last_fence = group_fence = 0;
  pending.finding = nullptr;
  for (uint32_t i = 0; i < max_slots; ++i) {
    uint32_t wanted = i == threadgroup_slot
                          ? launch.threadgroup_grain
                          : log2_of(slots[i].element, launch.device_grain);
    if (wanted != grain[i]) {  // cells of another size know nothing of these
      grain[i] = wanted;
      forget_cells(i);
    }
    const Slot& s = slots[i];
    if (s.writable && !make_cells(i, s.bytes)) stopped = true;
    uint64_t counted = s.writable && i != threadgroup_slot ? s.bytes >> grain[i] << grain[i] : 0;
    quick[i] = {(uint64_t)(s.start - region), s.writable ? 0 : s.bytes, counted, 1ull << grain[i],
                writes[i], writes[i] + reserved[i], 0, false, nullptr};
  }
}

void shadow_begin_group() {
  if (time_now > 0xF0000000u) {
    end_runs();
    forget_everything();
    forgotten = true;
    launch_start = 0;
    last_fence = 0;
  }
  group_start = ++time_now;
  group_bits = group_index << 10 & identity;
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
  end_runs();
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
  end_runs();
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
    writes[slot][at >> grain[slot]].who |= hollow;
}
