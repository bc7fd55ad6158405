"""Stream one greedy answer with a given prompt cache, and measure it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx


@dataclass(frozen=True)
class Generation:
    """tokens, text: the greedy answer. choices: the most likely token after each prefix of the
    *reference's* answer, given to the cache instead of its own (the answer itself where there is
    no reference). peak_bytes: the most memory that MLX held, weights included."""

    tokens: list[int]
    choices: list[int]
    text: str
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_bytes: int


def generate(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    cache: list[Any],
    count: int,
    on_text: Callable[[str], None],
    reference: Sequence[int] | None = None,
) -> Generation:
    """At most `count` greedy tokens after `prompt`; `on_text` gets each piece as it comes.

    reference: another cache's answer, for `Generation.choices`; the prompt is not run again.
    Raises ValueError for a prompt of fewer than 2 tokens or a count below 1.
    """
    from mlx_lm import stream_generate

    if len(prompt) < 2 or count < 1:
        raise ValueError(f"a prompt of {len(prompt)} tokens and {count} more: give 2 and 1 or more")
    mx.clear_cache()
    mx.reset_peak_memory()
    seconds = _prefill(model, prompt[:-1], cache)
    after_prompt = copy.deepcopy(cache)
    tokens: list[int] = []
    pieces: list[str] = []
    last: Any = None
    for last in stream_generate(
        model, tokenizer, list(prompt[-1:]), max_tokens=count, prompt_cache=cache
    ):
        tokens.append(int(last.token))
        pieces.append(last.text)
        on_text(last.text)
    given = tokens if reference is None else reference
    return Generation(
        tokens,
        tokens if reference is None else _choices(model, [prompt[-1], *given[:-1]], after_prompt),
        "".join(pieces),
        (len(prompt) - 1) / seconds,
        float(last.generation_tps),
        int(mx.get_peak_memory()),
    )


def _prefill(model: Any, tokens: Sequence[int], cache: list[Any], step: int = 512) -> float:
    """Run tokens into the cache in chunks; seconds that took."""
    start = time.perf_counter()
    for first in range(0, len(tokens), step):
        model(mx.array([list(tokens[first : first + step])]), cache=cache)
        mx.eval([layer.state for layer in cache])
    return time.perf_counter() - start


def _choices(model: Any, tokens: Sequence[int], cache: list[Any], step: int = 8) -> list[int]:
    """The most likely token after each of `tokens`, a few at a time."""
    said: list[Any] = []
    for first in range(0, len(tokens), step):
        logits = model(mx.array([list(tokens[first : first + step])]), cache=cache)
        said += mx.argmax(logits[0], axis=-1).tolist()  # type: ignore[arg-type]
    return [int(token) for token in said]


def chat_prompt(tokenizer: Any, text: str, tokens: int) -> list[int]:
    """A chat turn that asks what the first `tokens` tokens of `text` are about; for a model
    without a chat template just those tokens."""
    head: list[int] = tokenizer.encode(text[: 8 * tokens], add_special_tokens=False)[:tokens]
    if not getattr(tokenizer, "has_chat_template", False):
        return head
    turn = f"{tokenizer.decode(head)}\n\nWhat is this text about?"
    prompt: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": turn}], add_generation_prompt=True, return_dict=False
    )
    return prompt
