from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest

from tqgen_kernels.demo.gguf import Gguf, GgufError, llama_weights, read_gguf, unpermute
from tqgen_kernels.demo.model import write_model
from tqgen_kernels.demo.tokenizer import build_tokenizer


def silent(what: str, done: int, total: int) -> None:
    return None


def test_converted_model_computes_what_the_original_does(
    tiny_gguf: Path, tiny_llama: Any, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    write_model(
        tiny_gguf, tmp_path, "float32", lambda what, done, total: seen.append((done, total))
    )
    model, tokenizer = mlx_lm.load(str(tmp_path))[:2]
    tokens = mx.array([[5, 40, 7, 99, 200, 17, 3]])
    assert mx.allclose(model(tokens), tiny_llama(tokens), atol=1e-6).item()
    assert seen[-1] == (1, 1)
    assert tokenizer.eos_token_ids == {2}
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert prompt == "<|im_start|>hi<|im_end|>"


def test_float16_is_kept(tiny_gguf: Path, tmp_path: Path) -> None:
    write_model(tiny_gguf, tmp_path, "float16", silent)
    weights: Any = mx.load(str(tmp_path / "model.safetensors"))
    assert {array.dtype for array in weights.values()} == {mx.float16}


def test_tokenizer_splits_digits_merges_and_knows_special_tokens(tiny_gguf: Path) -> None:
    tokenizer = build_tokenizer(read_gguf(tiny_gguf))
    text = "the 2024<|im_end|>"
    encoded = tokenizer.encode(text)
    assert encoded.tokens == ["the", "Ġ", "2", "0", "2", "4", "<|im_end|>"]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == text
    assert tokenizer.encode("ü the").tokens[-1] == "Ġthe"


def write_q4_1(path: Path, scale: np.ndarray, low: np.ndarray, codes: np.ndarray) -> None:
    """A GGUF file with one Q4_1 tensor: blocks of 32 codes, each with fp16 scale and minimum."""
    blocks = b""
    for d, m, q in zip(scale, low, codes.reshape(-1, 32), strict=True):
        blocks += d.tobytes() + m.tobytes() + (q[:16] | q[16:] << 4).astype(np.uint8).tobytes()

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama")
    rows, columns = codes.shape
    head += text("output_norm.weight") + struct.pack("<IQQIQ", 2, columns, rows, 3, 0)
    path.write_bytes(head + b"\0" * (-len(head) % 32) + blocks)


def test_q4_1_blocks_are_read_without_rounding(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (4, 64))
    scale = rng.normal(size=8).astype(np.float16)
    low = rng.normal(size=8).astype(np.float16)
    write_q4_1(tmp_path / "q.gguf", scale, low, codes)
    config = {"torch_dtype": "float32", "num_attention_heads": 1, "num_key_value_heads": 1}
    found = llama_weights(read_gguf(tmp_path / "q.gguf"), config, silent)["model.norm.weight"]
    expected = np.repeat(scale.astype(np.float32), 32) * codes.ravel()
    expected += np.repeat(low.astype(np.float32), 32)
    assert np.array_equal(np.array(found).ravel(), expected.astype(np.float32))


def test_unpermute_by_hand() -> None:
    rows = mx.array([[0], [4], [1], [5], [2], [6], [3], [7]])  # one head: pairs (0,4), (1,5), ...
    assert unpermute(rows, 1).flatten().tolist() == list(range(8))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    mx.save_gguf(str(tmp_path / "x.gguf"), {"a": mx.zeros(4)}, {"general.architecture": "bert"})
    with pytest.raises(GgufError, match=r"'bert'; only 'llama'"):
        read_gguf(tmp_path / "x.gguf")


def test_unknown_tensors_tokenizers_and_missing_numbers_are_refused() -> None:
    config = {"torch_dtype": "float32", "num_attention_heads": 1, "num_key_value_heads": 1}
    with pytest.raises(GgufError, match=r"unknown tensor 'blk.0.gate_exps.weight'"):
        llama_weights(Gguf({"blk.0.gate_exps.weight": mx.zeros(4)}, {}), config, silent)
    with pytest.raises(GgufError, match="only"):
        build_tokenizer(Gguf({}, {"tokenizer.ggml.model": "llama"}))
    with pytest.raises(GgufError, match="no number 'llama.block_count'"):
        Gguf({}, {}).number("llama.block_count")
