"""One launch in the emulator, in a process that may crash."""

from __future__ import annotations

import sys

import mlx.core as mx

from tqgen_kernels import emulator

kernel = emulator.metal_kernel(
    name="kept",
    input_names=["x"],
    output_names=["out"],
    source="uint i = thread_position_in_grid.x; out[i] = simd_sum(x[i]);",
)
(out,) = kernel(
    inputs=[mx.ones((32,))],
    grid=(32, 1, 1),
    threadgroup=(32, 1, 1),
    output_shapes=[(32,)],
    output_dtypes=[mx.float32],
)
sys.stdout.write(f"{out[5].item()}\n")
