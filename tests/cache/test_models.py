"""Tiny random models of mlx-lm with compressed caches, through mlx-lm's own generation."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.generate import generate_step, speculative_generate_step
from mlx_lm.models import cache as mlx_caches
from mlx_lm.models import gemma3_text, gpt_oss, phi, qwen2
from mlx_lm.models.cache import KVCache, load_prompt_cache, save_prompt_cache

from tqgen_kernels import (
    Scheme,
    TurboQuantKVCache,
    make_adaptive_cache,
    make_prompt_cache,
    remove_patch,
)

Tokens = Callable[..., mx.array]
CLOSE = Scheme(8, 8, residual=16)


def logits_of(model: Any, ids: mx.array, cache: list[Any], prompt: int = 100) -> mx.array:
    """The logits of every position: a prompt in two chunks, then token by token, then a draft."""
    cuts = [0, prompt // 2, prompt, *range(prompt + 1, ids.shape[1] - 4), ids.shape[1]]
    out = []
    for start, stop in pairwise(cuts):
        out.append(model(ids[:, start:stop], cache=cache))
        mx.eval(out[-1], [c.state for c in cache] if stop <= prompt else [])
    return mx.concatenate(out, axis=1)


def error(model: Any, ids: mx.array, cache: list[Any]) -> float:
    """Largest difference of logits to mlx-lm's own cache, relative to the largest logit."""
    expected = logits_of(model, ids, mlx_caches.make_prompt_cache(model))
    found = logits_of(model, ids, cache)
    return float((mx.abs(found - expected).max() / mx.abs(expected).max()).item())


def tiny(module: Any, **fields: Any) -> Any:
    mx.random.seed(5)
    common = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 97,
        "rms_norm_eps": 1e-5,
    }
    args = module.ModelArgs.from_dict(common | fields)
    model = module.Model(args)
    mx.eval(model.parameters())
    return model


MODELS = {
    "llama": lambda: None,
    "qwen2": lambda: tiny(qwen2, model_type="qwen2", hidden_size=256),
    "gemma3": lambda: tiny(
        gemma3_text,
        model_type="gemma3_text",
        head_dim=32,
        num_hidden_layers=3,
        sliding_window=40,
        sliding_window_pattern=3,
    ),
    "phi, head_dim 80": lambda: tiny(
        phi, model_type="phi", hidden_size=160, num_attention_heads=2, num_key_value_heads=2
    ),
    "gpt-oss, sinks": lambda: tiny(
        gpt_oss,
        model_type="gpt_oss",
        head_dim=32,
        num_local_experts=2,
        num_experts_per_tok=1,
        sliding_window=40,
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("patch", [True, False])
def test_eight_bits_are_close_to_the_plain_cache(
    name: str, patch: bool, model: Any, tokens: Tokens
) -> None:
    if not patch:
        remove_patch()
    chosen = MODELS[name]() or model
    cache = make_prompt_cache(chosen, scheme=CLOSE)
    assert any(type(layer) is TurboQuantKVCache for layer in cache)
    assert error(chosen, tokens(140), cache) < 0.02
    assert any(
        type(layer) is TurboQuantKVCache and layer.store.packed() is not None for layer in cache
    )


@pytest.mark.parametrize("dim", [80, 96, 112])
def test_head_dims_that_are_no_power_of_two(
    dim: int, make_llama: Callable[..., Any], tokens: Tokens
) -> None:
    model = make_llama(head_dim=dim)
    assert error(model, tokens(140), make_prompt_cache(model, scheme=CLOSE)) < 0.02


@pytest.mark.parametrize("sides", [{"key_bits": 8}, {"value_bits": 8}])
def test_one_side_may_stay_exact(sides: dict[str, int], model: Any, tokens: Tokens) -> None:
    assert error(model, tokens(140), make_prompt_cache(model, **sides)) < 0.02


def test_with_and_without_the_hook_the_answer_is_the_same(model: Any, tokens: Tokens) -> None:
    ids = tokens(140)
    a = logits_of(model, ids, make_prompt_cache(model, bits=2))
    remove_patch()
    b = logits_of(model, ids, make_prompt_cache(model, bits=2))
    assert mx.allclose(a, b, atol=1e-4)


def generated(model: Any, prompt: mx.array, cache: list[Any], n: int, **options: Any) -> list[int]:
    steps = generate_step(prompt, model, max_tokens=n, prompt_cache=cache, **options)
    return [int(token) for token, _ in steps]


def test_a_prompt_cache_goes_on_where_it_was_saved(
    model: Any, tokens: Tokens, tmp_path: Path
) -> None:
    ids = tokens(180)[0]
    whole = generated(model, ids, make_prompt_cache(model, bits=3), 50)
    cache = make_prompt_cache(model, bits=3)
    first = generated(model, ids, cache, 10)
    assert cache[0].offset == 190  # generation runs one token ahead
    mlx_caches.trim_prompt_cache(cache, 1)
    path = str(tmp_path / "prompt.safetensors")
    save_prompt_cache(path, cache)
    rest = generated(model, mx.array(first[-1:]), load_prompt_cache(path), 40)
    assert first + rest == whole


def test_a_trimmed_prompt_cache_is_used_again(model: Any, tokens: Tokens) -> None:
    ids, other = tokens(120)[0], tokens(60, seed=1)[0]
    cache = make_prompt_cache(model, scheme=CLOSE)
    generated(model, ids, cache, 30)
    assert mlx_caches.can_trim_prompt_cache(cache)
    assert mlx_caches.trim_prompt_cache(cache, 50) == 50
    rest = generated(model, other, cache, 5)
    plain = generated(
        model, mx.concatenate([ids[:100], other]), mlx_caches.make_prompt_cache(model), 5
    )
    assert cache[0].offset == 100 + 60 + 5
    assert rest == plain


@pytest.mark.parametrize("drafts", [2, 5, 11])
def test_speculative_decoding_gives_what_decoding_gives(
    drafts: int, model: Any, make_llama: Callable[..., Any], tokens: Tokens
) -> None:
    prompt = tokens(150)[0]
    draft = make_llama(num_hidden_layers=1)
    expected = generated(model, prompt, mlx_caches.make_prompt_cache(model), 40)
    caches = make_prompt_cache(model, scheme=CLOSE) + make_prompt_cache(draft, scheme=CLOSE)
    steps = speculative_generate_step(
        prompt, model, draft, num_draft_tokens=drafts, max_tokens=40, prompt_cache=caches
    )
    assert [int(token) for token, *_ in steps] == expected


def edges(arrays: Any) -> int:
    out = io.StringIO()
    mx.export_to_dot(out, arrays)
    return out.getvalue().count("->")


@pytest.mark.parametrize("scheme", ["balanced", Scheme(4, None), "seed"])
def test_graphs_do_not_grow_while_decoding(
    scheme: Scheme | str, model: Any, tokens: Tokens
) -> None:
    """Only outputs are evaluated then: whatever is stored must be upstream of them."""
    cache = make_prompt_cache(model, scheme=scheme)
    mx.eval(model(tokens(120), cache=cache), [c.state for c in cache])
    counts = []
    for i in range(3 * 32):
        mx.eval(model(tokens(1, seed=i), cache=cache))
        counts.append(edges([a for c in cache for a in [*c.keys, *c.values]]))
    assert max(counts[64:]) <= max(counts[:32]) < 40


def test_the_readme_of_the_seed(model: Any, tokens: Tokens) -> None:
    input_ids = tokens(40)
    from tqgen_kernels import TurboQuantKVCache, make_adaptive_cache, apply_patch  # noqa: I001

    apply_patch()
    cache = make_adaptive_cache(len(model.layers), bits=3, fp16_layers=4)
    logits = model(input_ids, cache=cache)
    assert logits.shape == (1, 40, 97)
    assert TurboQuantKVCache(bits=3).scheme.key_bits == 3


def test_adaptive_caches_keep_the_first_and_last_layers() -> None:
    cache = make_adaptive_cache(10, bits=3, fp16_layers=2)
    kinds = [type(layer) for layer in cache]
    assert kinds == [KVCache] * 2 + [TurboQuantKVCache] * 6 + [KVCache] * 2
    assert {layer.scheme for layer in cache[2:8]} == {Scheme(3, 3)}
    assert all(type(layer) is KVCache for layer in make_adaptive_cache(4, fp16_layers=4))
    assert make_adaptive_cache(1, fp16_layers=0, scheme="tiny")[0].scheme == Scheme(2, 2)
    for layers, fp16 in ((0, 1), (3, -1), (2.5, 1), (3, "1")):
        with pytest.raises(ValueError, match="not supported"):
            make_adaptive_cache(layers, bits=3, fp16_layers=fp16)  # type: ignore[arg-type]
