// Last: words that the headers above still need for themselves. `threadgroup` declares arrays in a
// kernel; `constant` declares numbers and tables at program scope, whose contents the compiler
// knows; pointers to either are spelled auto.
#define threadgroup __shared__
#define constant __device__ const
#define device
#define thread
using namespace metal;
