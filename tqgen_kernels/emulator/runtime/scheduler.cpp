// Runs threadgroups one after another, their threads as fibers that switch where Metal lets them
// wait: SIMD-group operations and barriers. The last to arrive does the work and runs on.
#include <string.h>
#include <sys/mman.h>

#include "fiber.h"
#include "runtime.h"

namespace {
struct Lane {
  void* stack;  // where to continue
  tq_resolve resolve;
  uint32_t line;
  uint32_t what;
  uint32_t flags;
};
struct Simdgroup {
  uint32_t all, ready, waiting, at_barrier, done;  // masks of lanes
  tq_slot slots[32];
};

Lane lanes[max_threads];
Simdgroup simds[max_simdgroups];
uint32_t n_simds;
uint32_t runnable;  // mask of SIMD-groups that have a lane to run
uint32_t current;   // SIMD-group
uint32_t arrived;   // threads at the barrier
uint32_t ended;     // threads that returned
uint32_t barrier_line, barrier_flags, other_barrier_line;
void* scheduler_stack;
char* stacks;
uint64_t random_state;

uint32_t next_random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32);
}

uint32_t pick(uint32_t mask) {
  if (launch.order == ascending) return __builtin_ctz(mask);
  if (launch.order == descending) return 31 - __builtin_clz(mask);
  for (uint32_t skip = next_random() % __builtin_popcount(mask); skip; --skip) mask &= mask - 1;
  return __builtin_ctz(mask);
}

// Lanes at the lowest source line go first: the active mask that reconvergence gives.
void resolve(Simdgroup& s) {
  uint32_t first = __builtin_ctz(s.waiting);
  for (uint32_t m = s.waiting; m; m &= m - 1) {
    uint32_t i = __builtin_ctz(m);
    if (lanes[current * 32 + i].line < lanes[current * 32 + first].line) first = i;
  }
  const Lane& leader = lanes[current * 32 + first];
  uint32_t group = 0;
  for (uint32_t m = s.waiting; m; m &= m - 1) {
    uint32_t i = __builtin_ctz(m);
    const Lane& lane = lanes[current * 32 + i];
    if (lane.line == leader.line && lane.resolve == leader.resolve) group |= 1u << i;
  }
  if (group != s.all && launch.checked) {
    uint32_t me = tq_thread;
    tq_thread = current * 32 + first;
    bool barrier = leader.what == 3;
    if (Finding* f = report(barrier ? barrier_divergence : simd_divergence, 0, leader.line, group)) {
      f->soft = !barrier;
      f->index = group;
    }
    if (barrier) stop_launch();
    tq_thread = me;
  }
  if (leader.resolve) {
    uint32_t me = tq_thread;
    tq_thread = current * 32 + first;
    leader.resolve(group, s.slots);
    tq_thread = me;
  }
  if (launch.checked) {
    if (leader.what == 3)
      shadow_simd_barrier(current, leader.flags);
    else
      shadow_simd_step(current);
  }
  if (leader.what == 2)
    for (uint32_t m = group; m; m &= m - 1) s.slots[__builtin_ctz(m)].active = group;
  s.waiting &= ~group;
  s.ready |= group;
}

// All threads wait or have ended. Returns false when none waits.
bool release_barrier() {
  if (!arrived) return false;
  if (ended || other_barrier_line) {
    for (uint32_t i = 0; i < n_simds; ++i)
      if (simds[i].at_barrier) tq_thread = i * 32 + __builtin_ctz(simds[i].at_barrier);
    if (Finding* f = report(barrier_divergence, 0, barrier_line, 0)) {
      f->detail = ended ? threads_ended : other_barrier;
      f->index = ended ? ended : arrived;
      f->extent = tq_current_group.threads;
      f->other_line = other_barrier_line;
    }
    stop_launch();
  }
  for (uint32_t i = 0; i < n_simds; ++i) {
    simds[i].ready = simds[i].at_barrier;
    simds[i].at_barrier = 0;
    if (simds[i].ready) runnable |= 1u << i;
  }
  if (launch.checked) shadow_barrier(barrier_flags);
  arrived = barrier_line = other_barrier_line = 0;
  current = pick(runnable);
  return true;
}

// The thread that runs next, or -1 when all have ended.
int next_thread() {
  for (;;) {
    Simdgroup& s = simds[current];
    if (s.ready) return (int)(current * 32 + pick(s.ready));
    if (s.waiting) {
      resolve(s);
      continue;
    }
    runnable &= ~(1u << current);
    if (runnable)
      current = pick(runnable);
    else if (!release_barrier())
      return -1;
  }
}

void switch_away(uint32_t self) {
  int to = next_thread();
  if (to == (int)self) {
    tq_thread = self;
    return;
  }
  tq_thread = (uint32_t)to;
  tq_switch(&lanes[self].stack, to < 0 ? scheduler_stack : lanes[to].stack);
}

void* fresh_stack(uint32_t thread) {
  // Tops are spread, so that the hot ends of 1024 stacks do not share cache sets.
  char* top = stacks + (uint64_t)(thread + 1) * stack_bytes - 64 - (thread & 15) * 192;
  void** frame = (void**)((uint64_t)top & ~15ull) - saved_words - 1;
  frame[start_word] = (void*)tq_fiber_start;
  return frame;
}

void start_threads() {
  uint32_t n = tq_current_group.threads;
  n_simds = (n + 31) / 32;
  for (uint32_t i = 0; i < n_simds; ++i) {
    uint32_t rest = n - i * 32;
    Simdgroup& s = simds[i];
    s.all = s.ready = rest >= 32 ? ~0u : (1u << rest) - 1;
    s.waiting = s.at_barrier = s.done = 0;
  }
  for (uint32_t i = 0; i < n; ++i) lanes[i].stack = fresh_stack(i);
  runnable = n_simds == 32 ? ~0u : (1u << n_simds) - 1;
  arrived = ended = barrier_line = other_barrier_line = 0;
  current = pick(runnable);
}

// One fiber runs the whole group: no thread of this kernel ever waits.
bool whole_group;

bool make_stacks() {
  if (stacks) return true;
  void* p = mmap(0, (uint64_t)max_threads * stack_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANON | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return false;
  stacks = (char*)p;
  for (uint32_t i = 0; i < max_threads; ++i)
    mprotect(stacks + (uint64_t)i * stack_bytes, page_bytes, PROT_NONE);
  return true;
}
}  // namespace

EXPORT tq_group tq_current_group;
EXPORT unsigned tq_thread;
tq_group tq_current_group;
unsigned tq_thread;
uint32_t group_index;

bool on_stack_guard(uint64_t address) {
  uint64_t offset = address - (uint64_t)stacks;
  return offset < (uint64_t)max_threads * stack_bytes && offset % stack_bytes < page_bytes;
}

EXPORT void tq_fiber_main() {
  if (whole_group) {
    launch.range(buffer_pointers);
    void* ignored;
    tq_switch(&ignored, scheduler_stack);
  }
  launch.entry(buffer_pointers);
  uint32_t self = tq_thread;
  Simdgroup& s = simds[self >> 5];
  s.ready &= ~(1u << (self & 31));
  s.done |= 1u << (self & 31);
  ++ended;
  switch_away(self);
  __builtin_trap();
}

EXPORT tq_slot* tq_my_slot() { return &simds[tq_thread >> 5].slots[tq_thread & 31]; }

static void wait_in_simdgroup(tq_resolve how, uint32_t line, uint32_t what, uint32_t flags) {
  uint32_t self = tq_thread, bit = 1u << (self & 31);
  Simdgroup& s = simds[self >> 5];
  Lane& lane = lanes[self];
  lane.resolve = how;
  lane.line = line;
  lane.what = what;
  lane.flags = flags;
  s.ready &= ~bit;
  s.waiting |= bit;
  if (s.ready) {
    uint32_t to = current * 32 + pick(s.ready);
    tq_thread = to;
    tq_switch(&lane.stack, lanes[to].stack);
  } else {
    resolve(s);
    if (!(s.ready & bit)) switch_away(self);
  }
}

EXPORT unsigned tq_simd_wait(tq_resolve how, unsigned line, unsigned what) {
  tq_slot* slot = tq_my_slot();
  wait_in_simdgroup(how, line, what, 0);
  return slot->active;
}

EXPORT void tq_simdgroup_barrier(unsigned flags, unsigned line) {
  wait_in_simdgroup(nullptr, line, 3, flags);
}

EXPORT void tq_threadgroup_barrier(unsigned flags, unsigned line) {
  uint32_t self = tq_thread, bit = 1u << (self & 31);
  Simdgroup& s = simds[self >> 5];
  lanes[self].line = line;
  s.ready &= ~bit;
  s.at_barrier |= bit;
  if (!arrived++) {
    barrier_line = line;
    barrier_flags = flags;
  } else {
    if (line != barrier_line) other_barrier_line = line;
    barrier_flags &= flags;
  }
  switch_away(self);
}

EXPORT void tq_inactive_lane(unsigned lane, unsigned source) {
  tq_thread = (tq_thread & ~31u) + lane;
  if (Finding* f = report(inactive_lane, 0, lanes[tq_thread].line, source)) f->index = (int32_t)source;
}

[[noreturn]] void stop_launch() {
  stopped = true;
  running = false;
  void* ignored;
  tq_switch(&ignored, scheduler_stack);
  __builtin_unreachable();
}

void run_groups() {
  if (!make_stacks()) return;
  const uint32_t* grid = launch.grid;
  uint32_t groups[3];
  for (int i = 0; i < 3; ++i) groups[i] = (grid[i] + launch.group[i] - 1) / launch.group[i];
  tq_current_group.grid = {grid[0], grid[1], grid[2]};
  tq_current_group.groups = {groups[0], groups[1], groups[2]};
  tq_current_group.dispatched_size = {launch.group[0], launch.group[1], launch.group[2]};
  tq_current_group.dispatched_threads = launch.group[0] * launch.group[1] * launch.group[2];
  random_state = 0x9E3779B97F4A7C15ull ^ ((uint64_t)launch.seed * 0xBF58476D1CE4E5B9ull);
  whole_group = launch.range && launch.order == ascending;

  uint64_t total = (uint64_t)groups[0] * groups[1] * groups[2];
  // A stride coprime to the count visits every group once, in an order that looks random.
  uint64_t stride = 1, start = 0;
  if (launch.order == random_order && total > 1) {
    start = next_random() % total;
    stride = (next_random() % total) | 1;
    for (;; stride += 2) {
      uint64_t a = stride, b = total;
      while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
      }
      if (a == 1) break;
    }
  }
  for (uint64_t n = 0, walk = start; n < total && !stopped; ++n, walk = (walk + stride) % total) {
    uint64_t at = launch.order == descending ? total - 1 - n : launch.order == ascending ? n : walk;
    group_index = (uint32_t)at;
    tq_uint3 p = {(unsigned)(at % groups[0]), (unsigned)(at / groups[0] % groups[1]),
                  (unsigned)(at / groups[0] / groups[1])};
    unsigned full[3] = {launch.group[0], launch.group[1], launch.group[2]};
    unsigned position[3] = {p.x, p.y, p.z}, size[3];
    for (int i = 0; i < 3; ++i) {
      unsigned rest = grid[i] - position[i] * full[i];
      size[i] = rest < full[i] ? rest : full[i];
    }
    tq_current_group.position = p;
    tq_current_group.size = {size[0], size[1], size[2]};
    tq_current_group.threads = size[0] * size[1] * size[2];
    if (launch.checked) shadow_begin_group();
    running = true;
    if (whole_group) {
      tq_thread = 0;
      tq_switch(&scheduler_stack, fresh_stack(0));
    } else {
      start_threads();
      tq_thread = (uint32_t)next_thread();
      tq_switch(&scheduler_stack, lanes[tq_thread].stack);
    }
    running = false;
    if (launch.checked) shadow_settle();
  }
}

void describe_thread(uint32_t thread, uint32_t out[3]) {
  const tq_uint3& size = tq_current_group.size;
  out[0] = size.x ? thread % size.x : 0;
  out[1] = size.x ? thread / size.x % size.y : 0;
  out[2] = size.x ? thread / size.x / size.y : 0;
}
