"""Any CPU, through the emulator: the same Metal text, for tests and for machines with no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import mlx.core as mx

from tqgen_kernels import emulator
from tqgen_kernels.codegen.variant import Launch, Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Launcher

NAME = "emulated"


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
    kernel = emulator.metal_kernel(
        name=variant.name,
        input_names=list(variant.input_names),
        output_names=list(variant.output_names),
        source=variant.source,
        header=variant.header,
    )

    def launch(inputs: Sequence[mx.array], geometry: Launch) -> list[mx.array]:
        outputs: list[mx.array] = kernel(
            inputs=list(inputs),
            grid=geometry.grid,
            threadgroup=geometry.threadgroup,
            output_shapes=geometry.output_shapes,
            output_dtypes=[getattr(mx, dtype) for dtype in geometry.output_dtypes],
        )
        return outputs

    return launch
