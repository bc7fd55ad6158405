"""The Metal kernels inside mlx_lm agree with mlx_lm's own operations, with every check on."""

import importlib.util
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from tqgen_kernels import emulator

DTYPES = [mx.float32, mx.float16, mx.bfloat16]


def fresh(name: str) -> ModuleType:
    """A private copy of a module, whose kernels are built while the emulator is in place."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    emulator.install(as_metal=True)
    try:
        spec.loader.exec_module(module)
    finally:
        emulator.uninstall()
    return module


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    mx.random.seed(0)
    mx.disable_compile()
    yield
    mx.enable_compile()


def normal(*shape: int, dtype: mx.Dtype = mx.float32, scale: float = 1.0) -> mx.array:
    return (mx.random.normal(shape) * scale).astype(dtype)


def close(got: mx.array, expected: mx.array, relative: float | None = None) -> bool:
    """Within `relative` of the largest value, by default what the dtype's rounding explains."""
    if relative is None:
        relative = {mx.float32: 1e-5, mx.float16: 4e-3, mx.bfloat16: 3e-2}[got.dtype]
    got, expected = got.astype(mx.float32), expected.astype(mx.float32)
    return bool(mx.abs(got - expected).max() <= relative * (mx.abs(expected).max() + 1e-6))


def rms_norm(x: mx.array, eps: float) -> mx.array:
    x = x.astype(mx.float32)
    return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + eps)


def test_expert_routing() -> None:
    routing = fresh("mlx_lm.kernels.expert_routing")
    logits, bias = normal(5, 40), normal(40, scale=0.1)
    indices, weights = routing.expert_routing(
        logits, bias, top_k=4, multiplier=0.7, score_eps=1e-6, route_scale=2.0
    )
    scores = mx.sigmoid(logits * 0.7)
    order = mx.argsort(-(scores + bias), axis=-1)[:, :4]
    assert mx.array_equal(indices, order.astype(mx.uint32))
    chosen = mx.take_along_axis(scores, order, axis=-1)
    expected = chosen / (chosen.sum(axis=-1, keepdims=True) + 1e-6) * 2.0
    assert close(weights, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_qk_norm(dtype: mx.Dtype) -> None:
    kernels = fresh("mlx_lm.kernels.qk_norm")
    heads, kv_heads, dim = 4, 2, 64
    x = normal(2, 3, (2 * heads + 2 * kv_heads) * dim, dtype=dtype)
    q, k = kernels.qk_norm(
        x, n_heads=heads, n_kv_heads=kv_heads, head_dim=dim, eps=1e-5, query_scale=0.25
    )
    split = x.reshape(2, 3, -1, dim)
    assert close(q, rms_norm(split[..., :heads, :], 1e-5) * 0.25)
    assert close(k, rms_norm(split[..., heads : heads + kv_heads, :], 1e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("offset", [5, [3, 11]], ids=str)
def test_qk_norm_rope(dtype: mx.Dtype, offset: Any) -> None:
    kernels = fresh("mlx_lm.kernels.qk_norm_rope")
    heads, kv_heads, dim = 4, 2, 64
    x = normal(2, 3, (2 * heads + 2 * kv_heads) * dim, dtype=dtype)
    offsets = mx.array(offset) if isinstance(offset, list) else offset
    q, k = kernels.qk_norm_rope(
        x, n_heads=heads, n_kv_heads=kv_heads, head_dim=dim, eps=1e-5, query_scale=0.5,
        rope_base=10000.0, offset=offsets,
    )  # fmt: skip
    normed = rms_norm(x.reshape(2, 3, -1, dim), 1e-5)[..., : heads + kv_heads, :]
    normed = normed.astype(dtype).astype(mx.float32)
    expected = mx.fast.rope(
        normed.swapaxes(1, 2), dim, traditional=True, base=10000.0, scale=1.0, offset=offsets
    ).swapaxes(1, 2)
    assert close(q, expected[..., :heads, :] * 0.5, 1e-4 if dtype == mx.float32 else None)
    assert close(k, expected[..., heads:, :], 1e-4 if dtype == mx.float32 else None)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_norm_add_norm(dtype: mx.Dtype) -> None:
    kernels = fresh("mlx_lm.kernels.norm_add_norm")
    dim = 512
    branch, stream = normal(3, dim, dtype=dtype), normal(3, dim)
    alpha, beta = normal(dim), normal(dim)
    weight, norm = normal(dim), nn.RMSNorm(dim, eps=1e-5)
    norm.weight = normal(dim).astype(dtype)
    new_stream, normed = kernels.norm_add_norm(
        branch, stream, alpha=alpha, beta=beta, post_weight=None, post_eps=1e-6, next_norm=norm
    )
    assert new_stream.shape == stream.shape
    again = kernels.pre_norm(new_stream, norm, dtype=dtype)
    assert mx.array_equal(again, normed)
    assert close(normed, rms_norm(new_stream, 1e-5) * norm.weight.astype(mx.float32))
    scaled, nothing = kernels.norm_add_norm(
        branch, stream, alpha=alpha, beta=beta, post_weight=weight, post_eps=1e-6, next_norm=None
    )
    assert nothing is None
    assert bool(mx.isfinite(scaled).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_post_expert_norm_combine(dtype: mx.Dtype) -> None:
    kernels = fresh("mlx_lm.kernels.post_expert_norm_combine")
    experts, weights = normal(3, 4, 256, dtype=dtype), mx.softmax(normal(3, 4), axis=-1)
    norm_weight = normal(256)
    out = kernels.post_expert_norm_combine(experts, weights, norm_weight=norm_weight, eps=1e-6)
    assert out.shape == (3, 256)
    assert bool(mx.isfinite(out.astype(mx.float32)).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rms_norm_sigmoid_gate_takes_strided_inputs(dtype: mx.Dtype) -> None:
    kernels = fresh("mlx_lm.kernels.rms_norm_sigmoid_gate")
    x = normal(2, 5, 3, 64, dtype=dtype).swapaxes(1, 2)  # (B, H, L, D), not row contiguous
    gate = normal(2, 5, 3 * 64, dtype=dtype)
    out = kernels.rms_norm_sigmoid_gate(x, gate, eps=1e-5)
    normed = rms_norm(x, 1e-5).swapaxes(1, 2).reshape(2, 5, -1)
    assert close(out, normed * mx.sigmoid(gate.astype(mx.float32)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rwkv7(dtype: mx.Dtype) -> None:
    rwkv7 = fresh("mlx_lm.models.rwkv7")
    shape = (2, 4, 2, 64)
    r, k, v, a, b = (normal(*shape, dtype=dtype, scale=0.2) for _ in range(5))
    w = mx.sigmoid(normal(*shape)).astype(dtype)
    state = normal(2, 2, 64, 64, dtype=dtype, scale=0.2)
    y, new_state = rwkv7.wkv7_kernel(r, w, k, v, a, b, state)
    ys, expected_state = [], state.astype(mx.float32)
    for t in range(4):
        step = [z[:, t].astype(mx.float32) for z in (r, w, k, v, a, b)]
        out, expected_state = rwkv7._wkv7_step_ops(*step, expected_state)
        ys.append(out.squeeze(-1))
    assert close(y, mx.stack(ys, axis=1))
    assert close(new_state, expected_state)


def delta_inputs(dtype: mx.Dtype, vector_gate: bool, key_dim: int = 128) -> tuple[mx.array, ...]:
    B, T, Hk, Hv, Dv = 1, 4, 2, 4, 16
    q, k = normal(B, T, Hk, key_dim, dtype=dtype), normal(B, T, Hk, key_dim, dtype=dtype)
    v, beta = normal(B, T, Hv, Dv, dtype=dtype), mx.sigmoid(normal(B, T, Hv)).astype(dtype)
    shape = (B, T, Hv, key_dim) if vector_gate else (B, T, Hv)
    state = normal(B, Hv, Dv, key_dim)
    k = k / mx.linalg.norm(k.astype(mx.float32), axis=-1, keepdims=True).astype(dtype)
    return q, k, v, mx.sigmoid(normal(*shape)), beta, state


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vector_gate", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gated_delta(dtype: mx.Dtype, vector_gate: bool, masked: bool) -> None:
    module = fresh("mlx_lm.models.gated_delta")
    arguments = delta_inputs(dtype, vector_gate)
    mask = mx.array([[True, True, False, True]]) if masked else None
    y, state = module.gated_delta_kernel(*arguments, mask)
    expected, expected_state = module.gated_delta_ops(
        *(x.astype(mx.float32) for x in arguments), mask
    )
    if masked:
        y, expected = y[:, :2], expected[:, :2]
    assert close(y, expected)
    assert close(state, expected_state, 1e-4 if dtype == mx.float32 else 2e-2)


def test_gated_delta_packed_equals_the_explicit_tree_bit_for_bit() -> None:
    module = fresh("mlx_lm.models.gated_delta")
    arguments = delta_inputs(mx.float32, False)
    y, state = module.gated_delta_kernel(*arguments)
    for other in (module.gated_delta_kernel_xtree, module.gated_delta_kernel_unpacked):
        other_y, other_state = other(*arguments)
        assert mx.array_equal(y, other_y)
        assert mx.array_equal(state, other_state)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ssm(dtype: mx.Dtype) -> None:
    module = fresh("mlx_lm.models.ssm")
    n, heads, dim, groups, states = 2, 4, 16, 2, 64
    x, state = normal(n, 1, heads, dim, dtype=dtype), normal(n, heads, dim, states)
    A_log, D, dt_bias = normal(heads), normal(heads), normal(heads)
    B, C = normal(n, 1, groups, states, dtype=dtype), normal(n, 1, groups, states, dtype=dtype)
    dt = normal(n, 1, heads)
    limit = (0.001, 100.0)
    y, new_state = module.ssm_update_kernel(x, A_log, B, C, D, dt, dt_bias, state, limit)
    wide = [z.astype(mx.float32) for z in (x, B, C)]
    expected, expected_state = module.ssm_attn(
        wide[0], A_log, wide[1], wide[2], D, dt, dt_bias, state, limit
    )
    assert close(y, expected, 1e-4 if dtype == mx.float32 else None)
    assert close(new_state, expected_state, 1e-4)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16], ids=str)
def test_bitlinear(dtype: mx.Dtype) -> None:
    module = fresh("mlx_lm.models.bitlinear_layers")
    layer = module.BitLinear(256, 64, bias=False)
    ternary = mx.random.randint(0, 3, (4, 16, 256)).astype(mx.uint8)
    layer.weight = ternary[0] | ternary[1] << 2 | ternary[2] << 4 | ternary[3] << 6
    layer.weight_scale = mx.array([0.5], dtype)
    x = normal(3, 256, dtype=dtype)
    dense = (ternary.astype(mx.float32) - 1).reshape(64, 256)
    assert close(layer(x), x.astype(mx.float32) @ dense.T * 0.5)


def test_sinkhorn() -> None:
    module = fresh("mlx_lm.models.deepseek_v41")
    comb, eps = mx.exp(normal(300, 4, 4)), mx.array([1e-6])
    (out,) = module._sinkhorn_kernel(
        inputs=[comb, eps],
        template=[("HC", 4), ("ITERS", 6)],
        grid=(300, 1, 1),
        threadgroup=(256, 1, 1),
        output_shapes=[comb.shape],
        output_dtypes=[mx.float32],
    )
    assert close(out, module._sinkhorn(comb, iters=6, eps=eps))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_over_residual_blocks(dtype: mx.Dtype) -> None:
    module = fresh("mlx_lm.models.kimi_k3")
    K, N, D = 3, 2, 1024
    raw = normal(K, N, D, dtype=dtype)
    inv_rms = mx.rsqrt((raw.astype(mx.float32) ** 2).mean(axis=-1) + 1e-6)
    partial, w_eff = normal(N, D, dtype=dtype), normal(D, scale=0.05)
    (out,) = module._attn_res_kernel(
        inputs=[raw, inv_rms, partial, w_eff, mx.array([1e-6]), N],
        template=[("InT", dtype), ("K", K), ("D", D), ("THREADS", 512)],
        grid=(512, N, 1),
        threadgroup=(512, 1, 1),
        output_shapes=[partial.shape],
        output_dtypes=[dtype],
    )
    assert close(out, module._attn_res_combine(raw, inv_rms, partial, w_eff, 1e-6))


@pytest.mark.parametrize("name", ["_kl_forward_kernel", "_js_forward_kernel"])
def test_the_race_in_the_loss_kernels_is_found(name: str) -> None:
    """A SIMD-group may overwrite the shared maxima with sums while another still reads them."""
    losses = fresh("mlx_lm.tuner.losses")
    q, p = normal(2, 5000), normal(2, 5000)
    n_outputs = 2 if name.startswith("_js") else 1
    with pytest.raises(emulator.MetalFault) as raised:
        getattr(losses, name)(
            inputs=[q, p],
            template=[("T", mx.float32), ("V", 5000)],
            grid=(1024, 2, 1),
            threadgroup=(1024, 1, 1),
            output_shapes=[(2,)] * n_outputs,
            output_dtypes=[mx.float32] * n_outputs,
        )
    assert {f.kind for f in raised.value.findings if not f.soft} == {"race"}
    assert {f.buffer for f in raised.value.findings} == {"shared"}
    assert math.isfinite(raised.value.findings[0].line or math.nan)
