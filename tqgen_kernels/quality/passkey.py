"""Passkey retrieval: five digits hidden at a chosen depth of a long text, asked for at its end.

After Mohtashami & Jaggi, "Landmark Attention" (arXiv:2305.16300), section 4.2; here the answer
is teacher-forced, so that a model that answers in other words is not marked down.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx

from .teacher import CacheFactory, Steps, forced_logits, negative_log_likelihood, numbers

DEPTHS = tuple((2 * i + 1) / 20 for i in range(10))  # ten depths, 0.05 to 0.95
NEEDLE = "\n\nThe secret number is {key}. Remember it: the secret number is {key}.\n\n"
QUESTION = "\n\nWhat was the secret number? The secret number is"


class Encoder(Protocol):
    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str: ...


@dataclass(frozen=True)
class Passkey:
    """`found`: every token of the answer was the most likely one. `nll`: mean over the answer."""

    depth: float
    found: bool
    nll: float


def passkey(
    model: Any,
    tokenizer: Encoder,
    filler: Sequence[int],
    cache_factory: CacheFactory,
    depth: float,
    length: int,
    prefill_step: int = 512,
) -> Passkey:
    """Hide a key at `depth` (0 to 1) of `length` tokens taken from `filler`, and ask for it.

    The key depends on the depth alone. The question and the answer go through the cache a few
    tokens at a time, after a prefill in chunks. Raises ValueError if `filler` is too short.
    """
    key = str(random.Random(f"passkey {depth}").randrange(10_000, 100_000))
    needle = tokenizer.encode(NEEDLE.format(key=key), add_special_tokens=False)
    question = tokenizer.encode(QUESTION, add_special_tokens=False)
    answer = tokenizer.encode(f" {key}", add_special_tokens=False)
    while not tokenizer.decode(answer[:1]).strip():  # a lone space is no part of the answer
        question.append(answer.pop(0))
    room = length - len(needle) - len(question) - len(answer)
    if not 0 < room <= len(filler):
        raise ValueError(
            f"a passkey text of {length} tokens needs {room} tokens of filler; there are "
            f"{len(filler)}. Give a longer text, or a length above {length - room}."
        )
    cut = round(depth * room)
    text = [*filler[:cut], *needle, *filler[cut:room], *question, *answer]
    first = len(text) - len(question) - len(answer)
    steps = Steps(len(text) - 1, first, prefill_step, decode_step=8)
    said: list[int] = []
    nll: list[float] = []
    for position, logits in forced_logits(model, cache_factory(model), text, steps):
        said += numbers(mx.argmax(logits, axis=-1))
        nll += numbers(negative_log_likelihood(logits, text, position))
    n = len(answer)
    return Passkey(depth, said[-n:] == answer, sum(nll[-n:]) / n)
