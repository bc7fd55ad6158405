"""Run, check and break MLX Metal kernels on a CPU.

Works now: `metal_kernel` with threadgroups, barriers, SIMD and quad functions, vectors, half,
bfloat, simdgroup_matrix, atomics, metal:: math, templates, headers; on ziglang or clang >= 17.
"""

from tqgen_kernels.emulator.faults import Finding, MetalCompileError, MetalFault
from tqgen_kernels.emulator.kernel import MetalKernel, metal_kernel
from tqgen_kernels.emulator.options import Options, options

__all__ = [
    "Finding",
    "MetalCompileError",
    "MetalFault",
    "MetalKernel",
    "Options",
    "metal_kernel",
    "options",
]
