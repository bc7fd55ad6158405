"""Find the mistake in a Metal kernel with no Mac: the emulator runs it with every check on.

python examples/check_kernel.py
"""

import mlx.core as mx

from tqgen_kernels import emulator

SIZE = 256

# Every thread writes one element, then reads its neighbour's. What is missing between the two?
FAULTY = """
threadgroup float staged[256];
uint i = thread_position_in_threadgroup.x;
staged[i] = x[thread_position_in_grid.x];

y[thread_position_in_grid.x] = staged[255 - i];
"""
RIGHT = FAULTY.replace("\n\n", "\nthreadgroup_barrier(mem_flags::mem_threadgroup);\n")


def reverse_blocks(x: mx.array, source: str) -> mx.array:
    kernel = emulator.metal_kernel(
        name="reverse_blocks", input_names=["x"], output_names=["y"], source=source
    )
    (y,) = kernel(
        inputs=[x],
        grid=(x.size, 1, 1),
        threadgroup=(SIZE, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )
    return y


def main() -> None:
    x = mx.arange(4 * SIZE, dtype=mx.float32)
    with emulator.options(checks="full"):
        try:
            reverse_blocks(x, FAULTY)
        except emulator.MetalFault as fault:
            print(f"The first kernel is at fault:\n{fault}\n")
        else:
            raise SystemExit("the emulator missed the race")
        y = reverse_blocks(x, RIGHT)
    expected = x.reshape(-1, SIZE)[:, ::-1].flatten()
    assert mx.array_equal(y, expected)
    print("The second one, with a barrier, is right.")


if __name__ == "__main__":
    main()
