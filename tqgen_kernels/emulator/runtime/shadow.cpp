#include "runtime.h"
uint64_t last_access_pc;
bool need_finer_cells;
void shadow_begin_launch() {}
void shadow_begin_group() {}
void shadow_barrier(uint32_t) {}
void shadow_simd_step(uint32_t) {}
void shadow_simd_barrier(uint32_t, uint32_t) {}
void shadow_end_launch() {}
void shadow_settle() {}
EXPORT void tq_atomic_access(const void*, unsigned, unsigned, unsigned) {}
EXPORT void tq_fence(unsigned) {}
EXPORT void __tsan_init() {}
