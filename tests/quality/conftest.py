"""A tiny Llama with random weights, bare and as a folder that mlx_lm.load takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import llama

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "rms_norm_eps": 1e-5,
    "vocab_size": 257,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="session")
def model() -> Any:
    mx.random.seed(3)
    made = llama.Model(llama.ModelArgs(**CONFIG))
    # Larger than fresh weights: next-token probabilities that depend on the context.
    made.lm_head.weight = mx.random.normal((257, 64)) * 0.4
    for layer in made.layers:
        layer.self_attn.v_proj.weight = layer.self_attn.v_proj.weight * 4
        layer.self_attn.q_proj.weight = layer.self_attn.q_proj.weight * 4
    mx.eval(made.parameters())
    return made


@pytest.fixture(scope="session")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    path = tmp_path_factory.mktemp("model")
    letters = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))
    (path / "config.json").write_text(json.dumps(CONFIG))
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(path / "model.safetensors"), weights, metadata={"format": "mlx"})
    return path


@pytest.fixture(scope="session")
def tokens() -> list[int]:
    values: list[int] = mx.random.randint(0, 256, (2000,), key=mx.random.key(1)).tolist()  # type: ignore[assignment]
    return values
