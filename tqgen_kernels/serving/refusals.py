"""Requests that mlx-lm's server would die of, refused with a message instead.

What ends its generation thread ends every answer under way: the checks come before a request is
queued, or while its prompt is made into tokens, where an error is an answer to that request alone.
"""

from __future__ import annotations

import json
from typing import Any

MAX_SEED = 2**64 - 1
MAX_XTC_THRESHOLD = 0.5


def refuse(server: Any) -> None:
    """Put the checks into mlx-lm's server module."""
    handler, responses = server.APIHandler, server.ResponseGenerator
    validate, tokenize, post = (
        handler.validate_model_parameters,
        responses._tokenize,
        handler.do_POST,
    )

    def validated(self: Any) -> None:
        validate(self)
        check_body(self.path, self.body)

    def tokenized(self: Any, tokenizer: Any, request: Any, args: Any) -> Any:
        found = tokenize(self, tokenizer, request, args)
        check_tokens(found[0])
        check_vocabulary(args, vocabulary(self.model_provider.model, tokenizer))
        return found

    def posted(self: Any) -> None:
        try:
            post(self)
        except UnicodeDecodeError as error:
            self._set_completion_headers(400)
            self.end_headers()
            message = f"The request body is not UTF-8: {error}."
            self.wfile.write(json.dumps({"error": message}).encode())

    handler.validate_model_parameters = validated
    responses._tokenize = tokenized
    handler.do_POST = posted


def check_body(path: str, body: dict[str, Any]) -> None:
    """Raises ValueError for fields that mlx-lm's own check lets through."""
    prompt, stop = body.get("prompt"), body.get("stop")
    if path == "/v1/completions" and "prompt" in body and not isinstance(prompt, str):
        raise ValueError(f"prompt must be a string, not {type(prompt).__name__}.")
    words = stop if isinstance(stop, list) else [stop or ""]
    if not all(isinstance(word, str) for word in words):
        raise ValueError(f"stop {stop!r} is not supported: give a string or a list of strings.")
    threshold, seed = body.get("xtc_threshold", 0), body.get("seed") or 0
    if threshold > MAX_XTC_THRESHOLD:
        raise ValueError(f"xtc_threshold {threshold} is not supported: give at most 0.5.")
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is not supported: give 0 to {MAX_SEED}.")


def check_tokens(prompt: Any) -> None:
    """Raises ValueError unless the prompt has tokens."""
    if not len(prompt):
        raise ValueError("The prompt is empty: give at least one token.")


def check_vocabulary(args: Any, size: int) -> None:
    """Raises ValueError for sampling over more than the `size` tokens that there are."""
    if args.sampling.top_k >= size:
        raise ValueError(
            f"top_k {args.sampling.top_k} is not supported: the model has {size} tokens, "
            f"give 0 to {size - 1}."
        )
    foreign = [token for token in args.logits.logit_bias or () if not -size <= token < size]
    if foreign:
        raise ValueError(f"logit_bias names token {foreign[0]}: the model's are 0 to {size - 1}.")


def vocabulary(model: Any, tokenizer: Any) -> int:
    """How many tokens the model gives a score."""
    args = getattr(model, "args", None)
    for config in (args, getattr(args, "text_config", None)):
        found = config.get("vocab_size") if isinstance(config, dict) else None
        size = getattr(config, "vocab_size", found)
        if isinstance(size, int):
            return size
    return len(tokenizer.get_vocab())
