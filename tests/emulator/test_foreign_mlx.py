"""Kernels that MLX ships as Metal headers agree with MLX's own operations, with every check on."""

import re
from pathlib import Path
from typing import Any

import mlx
import mlx.core as mx
import pytest

from tqgen_kernels import emulator

INCLUDE = Path(next(iter(mlx.__path__))) / "include"
KERNELS = "mlx/backend/metal/kernels"
PRELUDE = {f"{KERNELS}/{n}.h" for n in ("utils", "bf16", "bf16_math", "complex", "defines")}

pytestmark = pytest.mark.skipif(
    not (INCLUDE / KERNELS / "sdpa_vector.h").exists(), reason="this MLX ships no Metal headers"
)


def metal_text(*names: str, **constants: Any) -> str:
    """Headers with their includes put in place, and function constants given their values."""
    seen = set(PRELUDE)

    def expand(path: str) -> str:
        if path in seen:
            return ""
        seen.add(path)
        text = (INCLUDE / path).read_text().replace("#pragma once", "")
        return re.sub(r'#include "([^"]+)"', lambda m: expand(m[1]), text)

    text = "\n".join(expand(f"{KERNELS}/{name}.h") for name in names)
    return re.sub(
        r"constant (\w+) (\w+) \[\[function_constant\(\d+\)\]\];",
        lambda m: f"constant {m[1]} {m[2]} = {constants.get(m[2], 0)};",
        text,
    )


def close(got: mx.array, expected: mx.array, relative: float) -> bool:
    got, expected = got.astype(mx.float32), expected.astype(mx.float32)
    return bool(mx.abs(got - expected).max() <= relative * mx.abs(expected).max())


@pytest.mark.parametrize(
    ("dtype", "relative"), [(mx.float32, 1e-5), (mx.bfloat16, 1e-2)], ids=["float32", "bfloat16"]
)
@pytest.mark.parametrize("causal", [False, True])
def test_sdpa_vector(dtype: mx.Dtype, relative: float, causal: bool) -> None:
    heads, kv_heads, tokens, dim, length = 4, 2, 45, 64, 2
    q, k, v = (
        mx.random.normal((1, h, n, dim), key=mx.random.key(h + n)).astype(dtype)
        for h, n in ((heads, length), (kv_heads, tokens), (kv_heads, tokens))
    )
    names = ["gqa", "n", "k_head", "k_seq", "v_head", "v_seq", "scale"]
    numbers = [
        mx.array(heads // kv_heads),
        mx.array(tokens),
        *(mx.array(s, mx.uint64) for s in (tokens * dim, dim, tokens * dim, dim)),
        mx.array(dim**-0.5),
    ]
    kernel = emulator.metal_kernel(
        name="sdpa",
        input_names=["q", "k", "v", *names],
        output_names=["out"],
        header=metal_text("sdpa_vector", do_causal=int(causal)),
        source=f"""
        sdpa_vector<T, 64>(q, k, v, out, {", ".join(names)}, nullptr, nullptr, gqa, gqa, gqa,
            nullptr, gqa, threadgroup_position_in_grid, threadgroups_per_grid,
            simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
        """,
    )
    (out,) = kernel(
        inputs=[q, k, v, *numbers],
        template=[("T", dtype)],
        grid=(heads * 1024, length, 1),
        threadgroup=(1024, 1, 1),
        output_shapes=[q.shape],
        output_dtypes=[dtype],
    )
    expected = mx.fast.scaled_dot_product_attention(
        *(x.astype(mx.float32) for x in (q, k, v)),
        scale=dim**-0.5,
        mask="causal" if causal else None,
    )
    assert close(out, expected, relative)


QUANTIZED = ("steel/gemm/gemm", "quantized_utils", "quantized")


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_quantized_matrix_vector(bits: int) -> None:
    columns, rows = 512, 16
    w, x = mx.random.normal((rows, columns)), mx.random.normal((1, columns))
    packed, scales, biases = mx.quantize(w, group_size=64, bits=bits)
    kernel = emulator.metal_kernel(
        name="qmv",
        input_names=["w", "scales", "biases", "x", "k", "n"],
        output_names=["out"],
        header=metal_text(*QUANTIZED),
        source=f"""
        affine_qmv_fast<float, 64, {bits}, false>(w, scales, biases, x, out, k, n, k, nullptr,
            nullptr, k, nullptr, nullptr, nullptr, nullptr, threadgroup_position_in_grid,
            simdgroup_index_in_threadgroup, thread_index_in_simdgroup);
        """,
    )
    (out,) = kernel(
        inputs=[packed, scales, biases, x, columns, rows],
        grid=(32, rows // 4, 1),
        threadgroup=(32, 2, 1),
        output_shapes=[(1, rows)],
        output_dtypes=[mx.float32],
    )
    assert close(out, mx.quantized_matmul(x, packed, scales, biases, bits=bits), 1e-5)


def test_quantized_matrix_product_on_the_matrix_unit() -> None:
    columns, rows, batch = 128, 64, 40
    w, x = mx.random.normal((rows, columns)), mx.random.normal((batch, columns))
    packed, scales, biases = mx.quantize(w, group_size=64, bits=4)
    kernel = emulator.metal_kernel(
        name="qmm",
        input_names=["w", "scales", "biases", "x", "k", "n", "m"],
        output_names=["out"],
        header=metal_text(*QUANTIZED),
        source="""
        affine_qmm_t<float, 64, 4, true, false>(w, scales, biases, x, out, k, n, m, k, nullptr,
            nullptr, k, nullptr, nullptr, nullptr, nullptr, threadgroup_position_in_grid,
            thread_index_in_threadgroup, simdgroup_index_in_threadgroup,
            thread_index_in_simdgroup);
        """,
    )
    (out,) = kernel(
        inputs=[packed, scales, biases, x, columns, rows, batch],
        grid=(rows // 32 * 32, (batch + 31) // 32 * 2, 2),
        threadgroup=(32, 2, 2),
        output_shapes=[(batch, rows)],
        output_dtypes=[mx.float32],
    )
    assert close(out, mx.quantized_matmul(x, packed, scales, biases, bits=4), 1e-5)
