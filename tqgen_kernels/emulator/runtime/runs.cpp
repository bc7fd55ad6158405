// Accesses of the loop over a threadgroup's threads, checked by range at each place in the text.
//
// A place that reads an input may read all of it: that is its range. A place at which each thread
// writes the element behind the one before has a run: the cells ahead that nobody touched. Inside
// either the kernel calls nothing. What it wrote is put into the cells when the run ends, which it
// does before anybody else looks at that memory.
#include "runtime.h"

namespace {
tq_site* sites_in_use;
// Of the run of each slot: its first write.
struct {
  char* begin;
  uint32_t time, who;
} runs[max_slots];

void use(tq_site* site) {
  if (site->used) return;
  site->used = 1;
  site->other = sites_in_use;
  sites_in_use = site;
}

void forget_sites() {
  for (tq_site *s = sites_in_use, *next; s; s = next) {
    next = s->other;
    *s = {};
  }
  sites_in_use = nullptr;
}

void end_run(Quick& q) {
  auto& run = runs[&q - quick];
  Access* w = q.writes + ((uint64_t)(run.begin - region) - q.begin) / q.cell_bytes;
  uint64_t n = (q.run->begin - (uint64_t)run.begin) / q.cell_bytes;
  for (uint64_t i = 0; i < n; ++i) w[i] = {run.time, run.who + (uint32_t)i};
  q.written += n;
  q.run->range = 0;
  q.run = nullptr;
}

void end_runs() {
  for (Quick& q : quick)
    if (q.run) end_run(q);
}

// Begins a run if this write goes on where the thread before left off.
bool begin_run(tq_site* site, char* p, uint32_t bytes) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region >= region_bytes) return false;
  Quick& q = quick[in_region >> slot_shift];
  if (q.run) end_run(q);
  if (site->range) end_runs();  // its own, of another slot
  bool goes_on = site->used && site->begin == (uint64_t)p && (site->thread == tq_thread || !tq_thread);
  use(site);
  site->begin = (uint64_t)p + bytes;
  site->thread = tq_thread + 1;
  uint64_t offset = in_region - q.begin;
  if (!goes_on || q.cell_bytes != bytes || offset >= q.bytes || offset % bytes || pending.finding)
    return false;
  Access* w = q.writes + offset / bytes;
  uint64_t most = tq_current_group.threads - tq_thread, left = (q.bytes - offset) / bytes;
  uint64_t n = 0;
  while (n < most && n < left && untouched(q, w + n)) ++n;
  if (!n) return false;
  q.run = site;
  runs[&q - quick] = {p, time_now, group_bits | tq_thread};
  site->range = (uint64_t)p + n * bytes;
  return true;
}

bool is_plain(char* p, uint32_t bytes, bool write) {
  switch (bytes) {
    case 1: return write ? plain_write<1>(p) : plain_read<1>(p);
    case 2: return write ? plain_write<2>(p) : plain_read<2>(p);
    case 4: return write ? plain_write<4>(p) : plain_read<4>(p);
    default: return write ? plain_write<8>(p) : plain_read<8>(p);
  }
}
}  // namespace

EXPORT void tq_read_at(tq_site* site, char* p, uint32_t bytes) {
  uint64_t in_region = (uint64_t)p - (uint64_t)region;
  if (in_region < region_bytes) {
    const Quick& q = quick[in_region >> slot_shift];
    if (q.input_bytes >= bytes) {
      use(site);
      site->begin = (uint64_t)region + q.begin;
      site->range = q.input_bytes - bytes + 1;
    }
  }
  if (!is_plain(p, bytes, false)) aligned(p, bytes, false, CALLER);
}

EXPORT void tq_write_at(tq_site* site, char* p, uint32_t bytes) {
  if (begin_run(site, p, bytes)) return;
  if (!is_plain(p, bytes, true)) aligned(p, bytes, true, CALLER);
}
