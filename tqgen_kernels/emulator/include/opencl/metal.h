// Everything a kernel text may name without including it.
#pragma once
#include "types.h"
#include "../abi.h"
#include "../math.h"
#include "../simd.h"
#include "../atomic.h"
#include "../matrix.h"
#include "../small_matrix.h"
#include "../normalized.h"
using namespace metal;
#pragma OPENCL EXTENSION __cl_clang_function_pointers : disable
