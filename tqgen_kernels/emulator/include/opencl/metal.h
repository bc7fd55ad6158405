// Everything a kernel text may name without including it.
#pragma once
#include "types.h"
#include "../abi.h"
#include "math.h"
#include "simd.h"
#include "atomic.h"
#include "matrix.h"

// Memory for a threadgroup's variable of type T, an array of E or an E.
template <typename T, typename E> TQ_FN void* __tq_variable(uint declaration, uint line) {
  return tq_threadgroup_variable(declaration, sizeof(T), sizeof(E), alignof(E), line);
}
using namespace metal;
#pragma OPENCL EXTENSION __cl_clang_function_pointers : disable
