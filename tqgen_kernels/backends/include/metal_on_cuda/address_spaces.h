// Last: words that the headers above still need for themselves. `threadgroup` declares arrays in a
// kernel, aligned so that four neighbours can be one load. `constant` declares numbers and tables
// at program scope, const so that the compiler folds what it can and divergent indices go through
// the cache. Pointers to either are spelled auto.
#define threadgroup __align__(16) __shared__
#define constant __device__ const
#define device
#define thread
using namespace metal;
