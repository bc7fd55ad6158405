"""Any CPU, through the emulator: the same Metal text, for tests and for machines with no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqgen_kernels import emulator
from tqgen_kernels.backends.metal_call import launcher
from tqgen_kernels.codegen.variant import Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Launcher

NAME = "emulated"
LAZY = False


def is_available() -> bool:
    """Whether a compiler for the emulator can be found."""
    from tqgen_kernels.emulator.compiler import find_compiler

    try:
        find_compiler()
    except RuntimeError:
        return False
    return True


def build(variant: Variant) -> Launcher:
    """A launcher of the variant; it evaluates its inputs, and compiles at the first launch."""
    return launcher(emulator.metal_kernel, variant)
