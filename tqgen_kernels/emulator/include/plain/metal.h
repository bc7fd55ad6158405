// Everything a kernel text may name without including it, for g++.
#pragma once
#include "types.h"
#include "../abi.h"
#include "../math.h"
#include "../simd.h"
#include "../atomic.h"
#include "../matrix.h"
#include "../small_matrix.h"
#include "../normalized.h"
namespace metal {
template <int N> TQ_FN bool any(vec<bool, N> v) {
  for (int i = 0; i < N; ++i)
    if (v[i]) return true;
  return false;
}
template <int N> TQ_FN bool all(vec<bool, N> v) {
  for (int i = 0; i < N; ++i)
    if (!v[i]) return false;
  return true;
}
}  // namespace metal
using namespace metal;
#include "utils.h"
