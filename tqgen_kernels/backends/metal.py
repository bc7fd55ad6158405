"""Apple GPUs, through mx.fast.metal_kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx

from tqgen_kernels.backends.metal_call import launcher
from tqgen_kernels.codegen.variant import Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Launcher

NAME = "metal"
LAZY = True


def is_available() -> bool:
    return bool(mx.metal.is_available())


def build(variant: Variant) -> Launcher:
    """A launcher of the variant. MLX compiles at the first launch, once a process and source."""
    return launcher(mx.fast.metal_kernel, variant)
