"""Run, check and break MLX Metal kernels on a CPU.

Works now: `metal_kernel` with threadgroups, barriers, SIMD and quad functions, vectors, half,
bfloat, simdgroup_matrix, atomics, metal:: math, templates, headers; on ziglang or clang >= 17.
"""

from typing import TYPE_CHECKING, Any

from tqgen_kernels.emulator.faults import Finding, MetalCompileError, MetalFault
from tqgen_kernels.emulator.installation import install, is_installed, uninstall
from tqgen_kernels.emulator.options import Options, options

if TYPE_CHECKING:
    from tqgen_kernels.emulator.kernel import MetalKernel, metal_kernel

__all__ = [
    "Finding",
    "MetalCompileError",
    "MetalFault",
    "MetalKernel",
    "Options",
    "install",
    "is_installed",
    "metal_kernel",
    "options",
    "uninstall",
]


def __getattr__(name: str) -> Any:
    # What needs MLX is imported when it is asked for.
    if name in ("MetalKernel", "metal_kernel"):
        from tqgen_kernels.emulator import kernel

        return getattr(kernel, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
