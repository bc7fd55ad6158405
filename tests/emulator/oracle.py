"""What MLX itself writes for a `metal_kernel` call, and random calls to ask it about.

Needs mlx alone, so that `oracle_versions.py` can run it under any MLX version:
`python oracle.py < cases.json > answers.json`.
"""

import json
import random
import sys
from typing import Any

import mlx.core as mx

DTYPES = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "complex64",
]
FRAGMENTS = (
    "uint i = thread_position_in_grid.x;",
    "dispatch_threads_per_threadgroup.x;",
    "// thread_index_in_simdgroup\n",
    "simdgroups_per_threadgroup",
    "threadgroup_position_in_grid.y;\n",
    "data_shape[0]",
    "a_ndim",
    "a_strides[1];",
    "b_shape[0]; b_ndim;",
    "/* inp_strides */",
    "\n\n",
    "x[i] = T(N);",
    'const char* s = "é";',
)
INPUT_NAMES = ("a", "data", "b", "inp", "x_a", "w")
OUTPUT_NAMES = ("out", "o2", "y")
SHAPES = ((), (1,), (7,), (8,), (0,), (2, 3), (2, 4), (1, 1, 1), (3, 0, 5), (4, 2, 3, 1))
HEADERS = ("", "// header", "#define N_ 3\n", "using namespace metal;\nconstant int k = 1;\n\n")


def dtype_named(name: str) -> mx.Dtype:
    return mx.bool_ if name == "bool" else getattr(mx, name)  # type: ignore[no-any-return]


def random_case(rng: random.Random) -> dict[str, Any]:
    """One call, as JSON. Names, sources and templates are drawn to hit the rules' corners."""
    input_names = rng.sample(INPUT_NAMES, rng.randint(0, 4))
    output_names = rng.sample(OUTPUT_NAMES, rng.randint(1, 3))
    values: list[Any] = [
        True,
        False,
        0,
        7,
        -3,
        2**31 - 1,
        -(2**31),
        *({"dtype": d} for d in DTYPES),
    ]
    template = [
        (name, rng.choice(values)) for name in rng.sample(["T", "N", "F", "U"], rng.randint(0, 4))
    ]
    return {
        "name": rng.choice(["k", "my_kernel", "K2"]),
        "input_names": input_names,
        "output_names": output_names,
        "source": "".join(rng.sample(FRAGMENTS, rng.randint(0, 6))),
        "header": rng.choice(HEADERS),
        "atomic_outputs": rng.random() < 0.3,
        "inputs": [(rng.choice(DTYPES), rng.choice(SHAPES)) for _ in input_names],
        "output_dtypes": [rng.choice(DTYPES) for _ in output_names],
        "template": template,
    }


def mlx_text(case: dict[str, Any]) -> tuple[str, str]:
    """(kernel name, Metal text) that MLX exports for `case`."""
    kernel = mx.fast.metal_kernel(
        name=case["name"],
        input_names=case["input_names"],
        output_names=case["output_names"],
        source=case["source"],
        header=case["header"],
        atomic_outputs=case["atomic_outputs"],
    )

    def call(*inputs: mx.array) -> list[mx.array]:
        return kernel(  # type: ignore[no-any-return]
            inputs=list(inputs),
            template=[
                (name, dtype_named(value["dtype"]) if isinstance(value, dict) else value)
                for name, value in case["template"]
            ],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
            output_shapes=[(1,)] * len(case["output_names"]),
            output_dtypes=[dtype_named(dtype) for dtype in case["output_dtypes"]],
        )

    inputs = [mx.zeros(shape, dtype=dtype_named(dtype)) for dtype, shape in case["inputs"]]
    found: list[tuple[str, str]] = []

    def record(entry: dict[str, Any]) -> None:
        if entry.get("name") == "CustomKernel":
            found.append((entry["arguments"][0], entry["arguments"][1]))

    mx.export_function(record, call, *inputs)
    (answer,) = found
    return answer


if __name__ == "__main__":
    cases = json.load(sys.stdin)
    json.dump([mx.__version__, [mlx_text(case) for case in cases]], sys.stdout)
