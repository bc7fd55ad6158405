"""Tiny random models of mlx-lm, and the hook taken off again after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models import llama

from tqgen_kernels import apply_patch, remove_patch


@pytest.fixture(autouse=True)
def patched() -> Iterator[None]:
    apply_patch()
    yield
    remove_patch()


def tiny_llama(**changes: Any) -> Any:
    mx.random.seed(3)
    fields: dict[str, Any] = {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "rms_norm_eps": 1e-5,
        "vocab_size": 97,
    }
    model = llama.Model(llama.ModelArgs(**(fields | changes)))
    mx.eval(model.parameters())
    return model


@pytest.fixture(scope="session")
def model() -> Any:
    """Llama of two layers, 4 query and 2 key/value heads of 64."""
    return tiny_llama()


@pytest.fixture(scope="session")
def make_llama() -> Callable[..., Any]:
    """Llama like `model`, with other fields."""
    return tiny_llama


@pytest.fixture
def tokens() -> Callable[..., mx.array]:
    """Random token ids (batch, n)."""

    def make(n: int, batch: int = 1, seed: int = 0) -> mx.array:
        return mx.random.randint(0, 97, (batch, n), key=mx.random.key(seed))

    return make
