"""One launch of a kernel text, and its result."""

from typing import Any, Literal

import mlx.core as mx
import numpy as np

from tqgen_kernels import emulator


def run(
    source: str,
    inputs: dict[str, Any] | None = None,
    *,
    header: str = "",
    threads: int | tuple[int, int, int] = 1,
    group: int | tuple[int, int, int] = 32,
    shape: tuple[int, ...] = (1,),
    dtype: mx.Dtype = mx.float32,
    template: list[tuple[str, Any]] | None = None,
    init: float | None = None,
    checks: Literal["full", "fast"] = "full",
    **options: Any,
) -> np.ndarray:
    """The output `out` of a kernel, which must have no finding, soft ones included."""
    inputs = inputs or {}
    kernel = emulator.metal_kernel(
        name="case",
        input_names=list(inputs),
        output_names=["out"],
        source=source,
        header=header,
        **options,
    )
    with emulator.options(strict=True, timeout=20, checks=checks):
        (out,) = kernel(
            inputs=list(inputs.values()),
            template=template or [],
            grid=threads if isinstance(threads, tuple) else (threads, 1, 1),
            threadgroup=group if isinstance(group, tuple) else (group, 1, 1),
            output_shapes=[shape],
            output_dtypes=[dtype],
            init_value=init,
        )
    return np.array(out.astype(mx.float32) if out.dtype == mx.bfloat16 else out)
