// Where buffers live: each ends at a page end inside its own 32 GB of reserved addresses, so that
// any 32-bit index error lands on a page that nobody may touch.
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"

char* region;
const uint64_t region_bytes = (uint64_t)max_slots << slot_shift;
Slot slots[max_slots];
void* buffer_pointers[max_slots];

namespace {
Variable variables[64];
uint32_t n_variables;

struct Pages {
  char* begin;
  uint64_t bytes;
};
Pages accessible[max_slots];

enum { threadgroup_limit = 32 << 10, threadgroup_reserve = 256 << 10, red_zone = 64 };
char* threadgroup_memory;
uint32_t threadgroup_used;   // with the gaps between variables
uint32_t threadgroup_bytes;  // as Metal counts

char* hole(uint32_t slot) { return region + ((uint64_t)slot << slot_shift); }

bool make_accessible(uint32_t slot, char* begin, char* end) {
  Pages& p = accessible[slot];
  uint64_t bytes = (uint64_t)(end - begin);
  if (p.begin == begin && p.bytes == bytes) return true;
  if (p.bytes) {
    mprotect(p.begin, p.bytes, PROT_NONE);
    // Large memory goes back to the system, so that a big launch is not held for ever.
    if (p.bytes > (64u << 20)) madvise(p.begin, p.bytes, MADV_DONTNEED);
  }
  p = {begin, bytes};
  return !bytes || mprotect(begin, bytes, PROT_READ | PROT_WRITE) == 0;
}
}  // namespace

bool reserve_memory() {
  if (region) return true;
  void* p = mmap(0, region_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  region = (char*)p;
  threadgroup_memory = hole(threadgroup_slot) + ((uint64_t)1 << (slot_shift - 1));
  return make_accessible(threadgroup_slot, threadgroup_memory,
                         threadgroup_memory + threadgroup_reserve);
}

bool place_buffers() {
  for (uint32_t i = 0; i < launch.n_buffers; ++i) {
    const Buffer& b = launch.buffers[i];
    if (b.bytes > (uint64_t)1 << (slot_shift - 1)) return false;
    char* end = hole(i) + ((uint64_t)1 << (slot_shift - 1));
    char* start = (char*)((uint64_t)(end - b.bytes) & ~15ull);
    char* page = (char*)((uint64_t)start & ~(uint64_t)(page_bytes - 1));
    if (!make_accessible(i, page, end)) return false;
    if (b.data)
      memcpy(start, b.data, b.bytes);
    else
      memset(start, 0xC3, b.bytes);
    // The alignment gap behind the last element reads as garbage, too.
    memset(start + b.bytes, 0xC3, (uint64_t)(end - start) - b.bytes);
    slots[i] = {start, b.bytes, (int64_t)b.offset, b.element, b.writable, b.data != nullptr};
    buffer_pointers[i] = start + b.offset;
  }
  for (uint32_t i = launch.n_buffers; i < threadgroup_slot; ++i) slots[i] = {};
  memset(threadgroup_memory, 0xC3, threadgroup_reserve);
  slots[threadgroup_slot] = {threadgroup_memory, threadgroup_reserve, 0, 1, 1, 0};
  n_variables = threadgroup_used = threadgroup_bytes = 0;
  return true;
}

void collect_results() {
  for (uint32_t i = 0; i < launch.n_buffers; ++i)
    if (launch.buffers[i].results)
      memcpy(launch.buffers[i].results, slots[i].start, launch.buffers[i].bytes);
}

// Variables keep their places from one threadgroup to the next.
EXPORT void* tq_threadgroup_variable(unsigned declaration, unsigned long bytes,
                                     unsigned long element, unsigned long align, unsigned line) {
  for (uint32_t i = 0; i < n_variables; ++i)
    if (variables[i].declaration == declaration) return variables[i].start;
  if (align < 16) align = 16;
  uint32_t at = (uint32_t)((threadgroup_used + align - 1) & ~(align - 1));
  threadgroup_bytes = (uint32_t)(((threadgroup_bytes + align - 1) & ~(align - 1)) + bytes);
  bool room = n_variables < 64 && at + bytes + red_zone <= threadgroup_reserve;
  if (threadgroup_bytes > threadgroup_limit || !room) {
    if (Finding* f = report(threadgroup_memory_limit, 0, line, declaration)) {
      f->slot = max_slots + declaration;
      f->space = threadgroup_space;
      f->index = threadgroup_bytes;
      f->extent = threadgroup_limit;
    }
    stop_launch();
  }
  Variable& v = variables[n_variables++];
  v = {threadgroup_memory + at, bytes, (uint32_t)element, declaration};
  threadgroup_used = (uint32_t)(at + bytes + red_zone);
  return v.start;
}

// The variable that a byte of threadgroup memory belongs to, or the one before a gap.
const Variable* variable_at(uint64_t offset) {
  const Variable* found = nullptr;
  for (uint32_t i = 0; i < n_variables; ++i)
    if ((uint64_t)(variables[i].start - threadgroup_memory) <= offset) found = &variables[i];
  return found;
}

void locate(Finding* f, uint32_t slot, int64_t offset) {
  const Slot& s = slots[slot];
  int64_t origin = s.origin, element = s.element ? s.element : 1;
  uint64_t bytes = s.bytes;
  f->slot = slot;
  f->space = device_space;
  if (slot == threadgroup_slot) {
    f->space = threadgroup_space;
    if (const Variable* v = variable_at((uint64_t)offset)) {
      f->slot = max_slots + v->declaration;
      origin = v->start - threadgroup_memory;
      element = v->element;
      bytes = v->bytes;
    }
  }
  int64_t at = offset - origin;
  f->index = at >= 0 ? at / element : -((-at + element - 1) / element);
  f->extent = bytes / (uint64_t)element;
}
