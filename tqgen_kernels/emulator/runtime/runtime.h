// The runtime's own view of a launch. One launch runs at a time; its state is global.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../include/abi.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

enum { max_threads = 1024, max_simdgroups = 32, max_slots = 64, threadgroup_slot = 63 };
enum { stack_bytes = 128 << 10, page_bytes = 16 << 10 };

// ---- what Python passes in; mirrored in launch.py ----------------------------------------------
struct Buffer {
  const void* data;    // first contents, or null: the memory is uninitialised
  void* results;       // where the contents go at the end, or null
  uint64_t bytes;      // of the whole extent
  uint64_t offset;     // of element 0 from the first byte
  uint32_t element;    // bytes of one element
  uint32_t writable;
};
struct Launch {
  void (*entry)(void* const* buffers);  // one thread
  void (*range)(void* const* buffers);  // every thread of a threadgroup, if none ever waits
  const Buffer* buffers;
  uint64_t text_begin, text_end;        // of the kernel's machine code
  double timeout;                       // seconds, 0: none
  uint32_t n_buffers;
  uint32_t grid[3];
  uint32_t group[3];
  uint32_t checked;                     // the kernel reports its accesses
  uint32_t order;                       // see Order
  uint32_t seed;
  uint32_t device_grain, threadgroup_grain;  // log2 of the least access; lowered by a launch
};
enum Order { ascending = 0, descending = 1, random_order = 2 };

// ---- findings; mirrored in faults.py ------------------------------------------------------------
enum Kind {
  out_of_bounds = 0,
  race = 1,
  uninitialised_read = 2,
  barrier_divergence = 3,
  inactive_lane = 4,
  misaligned = 5,
  division_by_zero = 6,
  shift_out_of_range = 7,
  float_to_int_range = 8,
  hang = 9,
  threadgroup_memory_limit = 10,
  write_to_input = 11,
  stack_overflow = 12,
  unwritten_output = 13,
  simd_divergence = 14,
  wild_access = 15,
  crash = 16,
};
enum Detail {
  none = 0,
  is_write = 1,         // the access was a write
  across_groups = 2,    // the other thread is of another threadgroup
  same_value = 4,       // both wrote the same
  lockstep = 8,         // ordered only because SIMD-group lanes run together
  wrong_flag = 16,      // a barrier lies between, with flags for other memory
  other_write = 32,     // the other access was a write
  threads_ended = 64,   // barrier: some threads had already returned
  other_barrier = 128,  // barrier: some threads wait at another
  several_others = 256,  // race: threads that were not remembered one by one
};
enum Space { no_space = 0, device_space = 1, threadgroup_space = 2, thread_space = 3, constant_space = 4 };

struct Finding {
  uint32_t kind, detail, soft, space;
  uint64_t pc;         // where, if `line` is 0
  uint64_t other_pc;
  uint32_t line, other_line;
  const char* file;    // where `line` is, if known
  const char* name;    // of a thread's variable
  const char* type;    // of an array that was indexed, as the compiler names it
  int64_t index;       // element, or the offending value
  int64_t slot;        // buffer, 64 + declaration of a threadgroup variable, or -1
  uint32_t thread[3], group[3];
  uint32_t other_thread, other_group;
  uint64_t extent;     // elements or bytes that there are
  uint64_t count;      // times it was seen
};
enum { max_findings = 64 };

// ---- the running launch -------------------------------------------------------------------------
extern Launch launch;
extern uint32_t group_index;  // of the running threadgroup, in launch order
extern bool running;          // kernel code is on the processor
extern bool stopped;          // after a fault that the kernel cannot go on from

// A new finding to fill in, or null when the same was found before (it is in *known then).
Finding* report(Kind kind, uint64_t pc, uint32_t line, uint32_t site, Finding** known = nullptr);
[[noreturn]] void stop_launch();

// ---- memory -------------------------------------------------------------------------------------
struct Slot {
  char* start;
  uint64_t bytes;
  int64_t origin;  // offset of element 0
  uint32_t element;
  uint32_t writable;
  uint32_t initialised;
};
extern char* region;
extern const uint64_t region_bytes;
enum { slot_shift = 35 };
extern Slot slots[max_slots];
extern void* buffer_pointers[max_slots];

bool reserve_memory();
bool place_buffers();
void collect_results();
struct Variable {
  char* start;
  uint64_t bytes;
  uint32_t element, declaration;
};
const Variable* variable_at(uint64_t offset);
// Says in a finding which element of what lies `offset` bytes into a slot.
void locate(Finding* f, uint32_t slot, int64_t offset);

// ---- order of accesses (shadow memory) ----------------------------------------------------------
void shadow_begin_launch();
void shadow_begin_group();
void shadow_barrier(uint32_t flags);
void shadow_simd_step(uint32_t simd);
void shadow_simd_barrier(uint32_t simd, uint32_t flags);
void shadow_end_launch();
void shadow_settle();
// What a place in a kernel has accessed last, see runs.cpp; mirrored in sites.py. Zeros: nothing yet.
struct tq_site {
  uint64_t begin;   // of what may be read, or the address of the next write
  uint64_t range;   // bytes from there, or the end of what may be written
  tq_site* other;   // list of those in use
  uint32_t thread;  // that writes next
  uint32_t used;
};
extern uint32_t last_atomic_line;
extern bool need_finer_cells;  // an access was smaller than a cell: launch again

// ---- execution ----------------------------------------------------------------------------------
void run_groups();
bool on_stack_guard(uint64_t address);
void describe_thread(uint32_t thread, uint32_t out[3]);
bool watch_signals();
void unwatch_signals();
