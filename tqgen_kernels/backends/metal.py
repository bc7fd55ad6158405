"""Apple GPUs, through mx.fast.metal_kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tqgen_kernels.codegen.variant import Launch, Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Launcher

NAME = "metal"


def is_available() -> bool:
    return bool(mx.metal.is_available())


def build(variant: Variant) -> Launcher:
    """A launcher of the variant. MLX compiles at the first launch, once a process and source."""
    kernel: Any = mx.fast.metal_kernel(
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
