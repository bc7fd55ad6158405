"""A tiny Llama with random weights, and the same model as a GGUF file in llama.cpp's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from tokenizers import pre_tokenizers

from tqgen_kernels.demo.gguf import LAYER_NAMES, TOP_NAMES

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["t h", "th e", "Ġ the"]
TOKENS = [*CONTROL, *LETTERS, "th", "the", "Ġthe"]
HEADS, KV_HEADS, DIM, LAYERS = 4, 2, 32, 2
CHAT = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def _permute(weight: mx.array, heads: int) -> mx.array:
    """Rows into llama.cpp's rotary order: what its converter does to a Hugging Face model."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _gguf_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if parts[:2] == ["model", "layers"]:
        names = {v: k for k, v in LAYER_NAMES.items()}
        return f"blk.{parts[2]}.{names['.'.join(parts[3:])]}.weight"
    names = {v: k for k, v in TOP_NAMES.items()}
    return f"{names['.'.join(parts)]}.weight"


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    mx.random.seed(7)
    model = llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=HEADS * DIM,
            num_hidden_layers=LAYERS,
            intermediate_size=64,
            num_attention_heads=HEADS,
            num_key_value_heads=KV_HEADS,
            rms_norm_eps=1e-5,
            vocab_size=len(TOKENS),
            rope_theta=10000.0,
            tie_word_embeddings=False,
        )
    )
    mx.eval(model.parameters())
    return model


@pytest.fixture(scope="session")
def tiny_gguf(tiny_llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    heads = {"q_proj": HEADS, "k_proj": KV_HEADS}
    tensors = {}
    for name, weight in tree_flatten(tiny_llama.parameters()):
        part = name.split(".")[-2]
        tensors[_gguf_name(name)] = _permute(weight, heads[part]) if part in heads else weight
    types = [3] * len(CONTROL) + [1] * (len(TOKENS) - len(CONTROL))
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": mx.array(LAYERS, mx.uint32),
        "llama.context_length": mx.array(512, mx.uint32),
        "llama.embedding_length": mx.array(HEADS * DIM, mx.uint32),
        "llama.feed_forward_length": mx.array(64, mx.uint32),
        "llama.attention.head_count": mx.array(HEADS, mx.uint32),
        "llama.attention.head_count_kv": mx.array(KV_HEADS, mx.uint32),
        "llama.rope.freq_base": mx.array(10000.0, mx.float32),
        "llama.attention.layer_norm_rms_epsilon": mx.array(1e-5, mx.float32),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": mx.array(types, mx.int32),
        "tokenizer.ggml.bos_token_id": mx.array(1, mx.uint32),
        "tokenizer.ggml.eos_token_id": mx.array(2, mx.uint32),
        "tokenizer.ggml.unknown_token_id": mx.array(0, mx.uint32),
        "tokenizer.ggml.padding_token_id": mx.array(2, mx.uint32),
        "tokenizer.chat_template": CHAT,
    }
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    mx.save_gguf(str(path), tensors, metadata)
    return path
