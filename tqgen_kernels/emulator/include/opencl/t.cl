#include "metal.h"
using namespace metal;
float q(float x, uint i){ threadgroup_barrier(mem_flags::mem_threadgroup); return simd_sum(x)+simd_shuffle(x,i)+simd_max(__tq_make<half>(x))+ (simd_ballot(x>0).all()?1:0)+simd_shuffle_xor(x,1) ; }
