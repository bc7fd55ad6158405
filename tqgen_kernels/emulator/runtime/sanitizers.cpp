// Callbacks of the undefined-behaviour checks that the compiler puts into kernels.
#include "runtime.h"

namespace {
struct Location {
  const char* file;
  uint32_t line, column;
};
struct OutOfBounds {
  Location at;
  const void *array, *index;
};
struct Overflow {
  Location at;
  const void* type;
};
struct TypeMismatch {
  Location at;
  const void* type;
  unsigned char log_alignment, check_kind;
};
struct FloatCast {
  Location at;
  const void *from, *to;
};

// The address of the call tells the author's line even where the check sits in the prelude.
#define CALL (uint64_t)__builtin_return_address(0) - 1
Finding* at(Kind kind, const Location& where, uint64_t pc) {
  Finding* f = report(kind, pc, 0, where.column);
  if (f) {
    f->line = where.line;
    f->file = where.file;
  }
  return f;
}
}  // namespace

EXPORT void __ubsan_handle_out_of_bounds(OutOfBounds* data, uint64_t index) {
  if (Finding* f = at(out_of_bounds, data->at, CALL)) {
    f->index = (int64_t)index;
    f->type = (const char*)data->array + 4;  // behind two shorts: '__local float[32]'
  }
  stop_launch();
}
EXPORT void __ubsan_handle_divrem_overflow(Overflow* data, uint64_t, uint64_t) {
  at(division_by_zero, data->at, CALL);
  stop_launch();
}
EXPORT void __ubsan_handle_type_mismatch_v1(TypeMismatch* data, uint64_t address) {
  if (address) {
    if (Finding* f = at(misaligned, data->at, CALL)) {
      f->other_pc = address;
      f->extent = 1u << data->log_alignment;
    }
  } else {
    at(wild_access, data->at, CALL);
  }
  stop_launch();
}
EXPORT void __ubsan_handle_float_cast_overflow(FloatCast* data, uint64_t) {
  at(float_to_int_range, data->at, CALL);
}
EXPORT void tq_division_by_zero() {
  report(division_by_zero, CALL, 0, 0);
  stop_launch();
}
EXPORT void tq_shift_out_of_range(int64_t amount, uint32_t width) {
  if (Finding* f = report(shift_out_of_range, CALL, 0, 0)) {
    f->index = amount;
    f->extent = width;
  }
}
EXPORT void tq_uninitialised_variable(const char* name) {
  if (Finding* f = report(uninitialised_read, CALL, 0, 0)) {
    f->space = thread_space;
    f->name = name;
  }
}
// `what`: 1 for constant memory, 2 for a write.
EXPORT void tq_beyond_variable(int64_t at, int64_t bytes, int64_t element, uint32_t what,
                               const char* name) {
  if (Finding* f = report(out_of_bounds, CALL, 0, what)) {
    f->space = what & 1 ? constant_space : thread_space;
    f->detail = what & 2 ? is_write : none;
    f->name = name;
    f->index = at >= 0 ? at / element : -((-at + element - 1) / element);
    f->extent = (uint64_t)(bytes / element);
  }
  stop_launch();
}
// g++ checks shifts itself.
EXPORT void __ubsan_handle_shift_out_of_bounds(Overflow* data, uint64_t, uint64_t amount) {
  if (Finding* f = at(shift_out_of_range, data->at, CALL)) {
    f->index = (int64_t)amount;
    f->extent = 32;
  }
}
