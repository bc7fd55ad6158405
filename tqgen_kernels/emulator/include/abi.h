// What compiled kernels and the runtime know of each other. Read by both compilers, as C.
#pragma once

// Where a lane leaves its operand of a SIMD-group operation and finds the result.
struct tq_slot {
  unsigned long in[4];
  unsigned long out[4];
  unsigned index;
  unsigned active;  // mask of the lanes that took part
} __attribute__((aligned(32)));

struct tq_uint3 {
  unsigned x, y, z;
};

// The threadgroup that is running, written by the runtime before its threads start.
struct tq_group {
  tq_uint3 position;         // threadgroup_position_in_grid
  tq_uint3 size;             // threads_per_threadgroup: smaller at a ragged edge
  tq_uint3 dispatched_size;  // dispatch_threads_per_threadgroup
  tq_uint3 grid;             // threads_per_grid
  tq_uint3 groups;           // threadgroups_per_grid
  unsigned threads;          // size.x * size.y * size.z
  unsigned dispatched_threads;
};

// Resolves one operation for the lanes of `mask`; `slots` are the 32 of the SIMD-group.
typedef void (*tq_resolve)(unsigned mask, tq_slot* slots);

extern "C" {
extern tq_group tq_current_group;
extern unsigned tq_thread;  // index in the threadgroup of the thread that runs

tq_slot* tq_my_slot(void);
// Waits for the active lanes; returns their mask.
unsigned tq_simd_wait(tq_resolve resolve, unsigned line, unsigned what);
void tq_simdgroup_barrier(unsigned flags, unsigned line);
void tq_threadgroup_barrier(unsigned flags, unsigned line);
void tq_fence(unsigned flags);
// The same address for every thread of a threadgroup; `declaration` counts those of the source.
void* tq_threadgroup_variable(unsigned declaration, unsigned long bytes, unsigned long element,
                              unsigned long align, unsigned line);
void tq_inactive_lane(unsigned lane, unsigned source);
void tq_atomic_access(const void* address, unsigned bytes, unsigned writes, unsigned line);
}
