"""The call of mx.fast.metal_kernel, which the emulator answers as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tqgen_kernels.codegen.variant import Launch, Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Bound, Launcher


@lru_cache(maxsize=256)
def arguments(geometry: Launch) -> dict[str, Any]:
    """What MLX's call takes of a geometry: made once, not at every layer and token."""
    return {
        "grid": geometry.grid,
        "threadgroup": geometry.threadgroup,
        "output_shapes": list(geometry.output_shapes),
        "output_dtypes": [getattr(mx, dtype) for dtype in geometry.output_dtypes],
    }


def launcher(metal_kernel: Callable[..., Any], variant: Variant) -> Launcher:
    """A launcher of the variant, made by `metal_kernel`: MLX's own, or the emulator's."""
    kernel = metal_kernel(
        name=variant.name,
        input_names=list(variant.input_names),
        output_names=list(variant.output_names),
        source=variant.source,
        header=variant.header,
    )

    return lambda geometry: bound(kernel, arguments(geometry))


def bound(kernel: Callable[..., Any], given: dict[str, Any]) -> Bound:
    """The kernel with all but its inputs given."""

    def launch(inputs: Sequence[mx.array]) -> list[mx.array]:
        outputs: list[mx.array] = kernel(inputs=list(inputs), **given)
        return outputs

    return launch
