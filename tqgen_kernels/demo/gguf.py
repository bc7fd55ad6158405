"""GGUF file of a Llama model -> mlx-lm weights and config.

MLX itself reads GGUF (mx.load): Q4_0, Q4_1 and Q8_0 tensors arrive as MLX's affine codes with a
scale and a bias per 32 values, which mx.dequantize turns into float32 without rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

GROUP = 32  # values that share a scale in GGUF's Q4_0, Q4_1 and Q8_0 blocks

Progress = Callable[[str, int, int], None]  # (what, done, total)

# GGUF tensor name -> Hugging Face name, inside layer i and outside the layers
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class GgufError(ValueError):
    """The GGUF file holds a model that this converter does not know."""


@dataclass(frozen=True)
class Gguf:
    """Tensors (codes, scales and biases as MLX keeps them) and metadata of one GGUF file."""

    tensors: dict[str, mx.array]
    metadata: dict[str, Any]

    def number(self, key: str) -> int | float:
        """A numeric metadata entry as a Python number; raises GgufError if it is missing."""
        value = self.metadata.get(key)
        if not isinstance(value, mx.array):
            raise GgufError(f"the GGUF file has no number {key!r} in its metadata")
        number = value.item()
        assert isinstance(number, (int, float))
        return number


def read_gguf(path: Path) -> Gguf:
    """Load a GGUF file lazily. Raises GgufError unless its architecture is llama."""
    loaded: Any = mx.load(str(path), format="gguf", return_metadata=True)
    tensors, metadata = loaded
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise GgufError(f"{path.name}: architecture {architecture!r}; only 'llama' is supported")
    return Gguf(tensors, metadata)


def llama_config(gguf: Gguf, dtype: str) -> dict[str, Any]:
    """config.json of a Llama model for mlx-lm; `dtype` is 'float32', 'float16' or 'bfloat16'."""
    hidden = int(gguf.number("llama.embedding_length"))
    heads = int(gguf.number("llama.attention.head_count"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": int(gguf.number("llama.feed_forward_length")),
        "num_hidden_layers": int(gguf.number("llama.block_count")),
        "num_attention_heads": heads,
        "num_key_value_heads": int(gguf.number("llama.attention.head_count_kv")),
        "head_dim": hidden // heads,
        "max_position_embeddings": int(gguf.number("llama.context_length")),
        # The file stores float32; seven digits give back the number that was meant.
        "rms_norm_eps": float(f"{gguf.number('llama.attention.layer_norm_rms_epsilon'):.7g}"),
        "rope_theta": float(gguf.number("llama.rope.freq_base")),
        "vocab_size": int(gguf.tensors["token_embd.weight"].shape[0]),
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "bos_token_id": int(gguf.number("tokenizer.ggml.bos_token_id")),
        "eos_token_id": int(gguf.number("tokenizer.ggml.eos_token_id")),
        "torch_dtype": dtype,
    }


def llama_weights(gguf: Gguf, config: dict[str, Any], progress: Progress) -> dict[str, mx.array]:
    """All weights under Hugging Face names, dequantised to config['torch_dtype'], evaluated.

    Query and key rows are put back from llama.cpp's rotary order (pairs side by side) into
    Hugging Face's (halves), per head. Raises GgufError on a tensor that has no known name.
    """
    dtype: mx.Dtype = getattr(mx, config["torch_dtype"])
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    names = sorted(name for name in gguf.tensors if name.endswith(".weight"))
    weights: dict[str, mx.array] = {}
    for done, name in enumerate(names):
        progress("converting weights", done, len(names))
        part = name.removesuffix(".weight").split(".")[-1]
        tensor = _dequantize(gguf, name.removesuffix(".weight"))
        if part in heads:
            tensor = unpermute(tensor, heads[part])
        weights[_hugging_face_name(name)] = tensor.astype(dtype)
        mx.eval(weights[_hugging_face_name(name)])
    progress("converting weights", len(names), len(names))
    return weights


def unpermute(weight: mx.array, heads: int) -> mx.array:
    """Rows (heads * head_dim, in) from llama.cpp's order, x0 y0 x1 y1, to x0 x1 ... y0 y1 ..."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _hugging_face_name(name: str) -> str:
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in LAYER_NAMES:
        return f"model.layers.{parts[1]}.{LAYER_NAMES[parts[2]]}.weight"
    if len(parts) == 1 and parts[0] in TOP_NAMES:
        return f"{TOP_NAMES[parts[0]]}.weight"
    raise GgufError(f"unknown tensor {name!r} in the GGUF file")


def _dequantize(gguf: Gguf, name: str) -> mx.array:
    """Tensor `name` in float32; group scales are widened first, so nothing is rounded."""
    weight, scales = gguf.tensors[f"{name}.weight"], gguf.tensors.get(f"{name}.scales")
    if scales is None:
        return weight.astype(mx.float32)
    biases = gguf.tensors[f"{name}.biases"]
    bits = weight.shape[-1] * 32 // (scales.shape[-1] * GROUP)
    return mx.dequantize(
        weight,
        scales=scales.astype(mx.float32),
        biases=biases.astype(mx.float32),
        group_size=GROUP,
        bits=bits,
    )
