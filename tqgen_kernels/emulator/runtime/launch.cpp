// The one call that Python makes for a launch, and the list of what it found.
#include <string.h>

#include "runtime.h"

Launch launch;
bool running, stopped;
static Finding findings[max_findings];
static uint32_t n_findings;
static uint32_t sites[max_findings];

Finding* report(Kind kind, uint64_t pc, uint32_t line, uint32_t site, Finding** known) {
  for (uint32_t i = 0; i < n_findings; ++i) {
    Finding& f = findings[i];
    if (f.kind == (uint32_t)kind && f.pc == pc && (!line || f.line == line) && sites[i] == site) {
      ++f.count;
      if (known) *known = &f;
      return nullptr;
    }
  }
  if (n_findings == max_findings) return nullptr;
  Finding& f = findings[n_findings];
  sites[n_findings++] = site;
  memset(&f, 0, sizeof f);
  f.kind = kind;
  f.pc = pc;
  f.line = line;
  f.slot = -1;
  f.count = 1;
  describe_thread(tq_thread, f.thread);
  const tq_uint3& g = tq_current_group.position;
  f.group[0] = g.x;
  f.group[1] = g.y;
  f.group[2] = g.z;
  return &f;
}

enum { done = 0, no_memory = 1, finer_cells = 2 };

// Runs a launch. Afterwards tq_findings() of them are at tq_finding(i).
EXPORT int tq_launch(Launch* what) {
  launch = *what;
  n_findings = 0;
  stopped = false;
  if (!reserve_memory() || !place_buffers() || !watch_signals()) return no_memory;
  if (launch.checked) shadow_begin_launch();
  run_groups();
  unwatch_signals();
  if (launch.checked) {
    if (need_finer_cells) {
      what->device_grain = launch.device_grain;
      what->threadgroup_grain = launch.threadgroup_grain;
      return finer_cells;
    }
    if (!stopped) shadow_end_launch();
  }
  if (!stopped) collect_results();
  return done;
}

EXPORT unsigned tq_findings() { return n_findings; }
EXPORT const Finding* tq_finding(unsigned i) { return &findings[i]; }
