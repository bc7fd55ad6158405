"""tokenizer.json and tokenizer_config.json from a GGUF file's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .gguf import Gguf, GgufError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL = 3  # GGUF token type of special tokens such as <|im_start|>


def build_tokenizer(gguf: Gguf) -> Tokenizer:
    """Byte-level BPE tokenizer that splits numbers into single digits (GGUF: gpt2 / smollm).

    Raises GgufError for any other tokenizer kind.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (gguf.metadata.get("tokenizer.ggml.model"), gguf.metadata.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        raise GgufError(f"tokenizer {kind}; only ('gpt2', 'smollm') is supported")
    tokens: list[str] = gguf.metadata["tokenizer.ggml.tokens"]
    merges: list[str] = gguf.metadata["tokenizer.ggml.merges"]
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    types = gguf.metadata["tokenizer.ggml.token_type"].tolist()
    control = [token for token, type_ in zip(tokens, types, strict=True) if type_ == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    return tokenizer


def tokenizer_config(gguf: Gguf) -> dict[str, Any]:
    """tokenizer_config.json: special tokens, context length and the chat template."""
    tokens: list[str] = gguf.metadata["tokenizer.ggml.tokens"]

    def token(role: str) -> str:
        return tokens[int(gguf.number(f"tokenizer.ggml.{role}_token_id"))]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(gguf.number("llama.context_length")),
        "chat_template": gguf.metadata["tokenizer.chat_template"],
    }
