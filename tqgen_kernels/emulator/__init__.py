"""Run, check and break MLX Metal kernels on a CPU.

`metal_kernel` takes the place of mx.fast.metal_kernel; `install` puts it there for the process.
`options` says what is checked while kernels run, `check` reads a text without running it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tqgen_kernels.emulator.faults import Finding, MetalCompileError, MetalFault, MetalWarning
from tqgen_kernels.emulator.options import Options, options

if TYPE_CHECKING:
    from tqgen_kernels.emulator.checker.static import check
    from tqgen_kernels.emulator.compiler import is_available
    from tqgen_kernels.emulator.installation import install, uninstall
    from tqgen_kernels.emulator.kernel import MetalKernel, metal_kernel

__all__ = [
    "Finding",
    "MetalCompileError",
    "MetalFault",
    "MetalKernel",
    "MetalWarning",
    "Options",
    "check",
    "install",
    "is_available",
    "metal_kernel",
    "options",
    "uninstall",
]

# Imported when first used: the signature rules and the pytest plugin do without MLX.
_LATER = {
    "MetalKernel": "kernel",
    "check": "checker.static",
    "install": "installation",
    "is_available": "compiler",
    "metal_kernel": "kernel",
    "uninstall": "installation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value
