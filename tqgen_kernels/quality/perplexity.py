"""Perplexity of a text with any prompt cache, teacher-forced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .teacher import CacheFactory, Progress, Steps, forced_logits, negative_log_likelihood, numbers


def perplexity(
    model: Any,
    text_windows: Sequence[Sequence[int]],
    cache_factory: CacheFactory,
    steps: Steps,
    progress: Progress,
) -> float:
    """exp of the mean negative log-likelihood over the scored positions of all windows.

    text_windows: from `teacher.windows`. Each window gets a fresh cache from `cache_factory`.
    """
    losses: list[float] = []
    total = len(text_windows) * steps.length
    for index, window in enumerate(text_windows):
        for position, logits in forced_logits(model, cache_factory(model), window, steps):
            losses += numbers(negative_log_likelihood(logits, window, position))
            progress("perplexity", index * steps.length + position + logits.shape[0], total)
    return math.exp(math.fsum(losses) / len(losses))
