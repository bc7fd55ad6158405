"""Teacher forcing through a prompt cache: the text is given, the cache is what is tested."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx

CacheFactory = Callable[[Any], list[Any]]  # model -> one mlx-lm cache a layer
Progress = Callable[[str, int, int], None]  # (what, done, total)


@dataclass(frozen=True)
class Steps:
    """How a window of tokens goes through the cache.

    length: tokens a window. score_from: the first position whose prediction is scored; the
    tokens before it are the prompt. prefill_step: tokens a chunk in the prompt. decode_step:
    tokens a chunk from score_from on. A query sees the tokens of its own chunk as the cache
    returns them in that call and everything older as the cache stores it: with a step of 8 the
    exact window is 4 tokens longer, on average, than in decoding one token at a time, attention
    takes the same packed path, and it is several times faster.
    Raises ValueError unless 0 <= score_from < length and the steps are positive.
    """

    length: int = 2048
    score_from: int = 1024
    prefill_step: int = 512
    decode_step: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.score_from < self.length:
            raise ValueError(
                f"score_from {self.score_from} must be at least 0 and below the window's "
                f"length, {self.length}"
            )
        if self.prefill_step < 1 or self.decode_step < 1:
            raise ValueError("prefill_step and decode_step must be at least 1")

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """(start, stop) of every chunk of a window, in order."""
        prompt = range(0, self.score_from, self.prefill_step)
        rest = range(self.score_from, self.length, self.decode_step)
        starts = [*prompt, *rest, self.length]
        return list(itertools.pairwise(starts))


def windows(tokens: Sequence[int], steps: Steps, count: int) -> list[list[int]]:
    """`count` windows of steps.length + 1 tokens, spread evenly over the text, not overlapping.

    The last token of a window is only predicted. Raises ValueError if the text is too short.
    """
    size = steps.length + 1
    if count < 1 or len(tokens) < count * size:
        raise ValueError(
            f"{count} windows of {size} tokens need {count * size} tokens; the text has "
            f"{len(tokens)}. Take at least 1 and fewer or shorter windows, or a longer text."
        )
    stride = len(tokens) // count
    return [list(tokens[i * stride : i * stride + size]) for i in range(count)]


def forced_logits(
    model: Any, cache: list[Any], window: Sequence[int], steps: Steps
) -> Iterator[tuple[int, mx.array]]:
    """Yield (position, logits) for the scored chunks: logits (n, vocab) float32, evaluated.

    Row i predicts window[position + i + 1]. The prompt's logits are never computed.
    """
    for start, stop in steps.chunks:
        logits = model(mx.array([list(window[start:stop])]), cache=cache)
        if start < steps.score_from:
            mx.eval([layer.state for layer in cache])  # as mlx-lm does after a prefill chunk
            continue
        logits = logits[0].astype(mx.float32)
        mx.eval(logits, [layer.state for layer in cache])
        yield start, logits


def numbers(row: mx.array) -> list[Any]:
    """A one-dimensional array as Python numbers."""
    return cast("list[Any]", row.tolist())


def log_probabilities(logits: mx.array) -> mx.array:
    """Log-softmax over the last axis in float32."""
    return logits - mx.logsumexp(logits, axis=-1, keepdims=True)


def negative_log_likelihood(logits: mx.array, window: Sequence[int], position: int) -> mx.array:
    """(n,) float32: -log p of the next tokens, for logits (n, vocab) that start at `position`."""
    n = logits.shape[0]
    targets = mx.array(list(window[position + 1 : position + 1 + n]))[:, None]
    return -mx.take_along_axis(log_probabilities(logits), targets, axis=-1)[:, 0]
