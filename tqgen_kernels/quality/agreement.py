"""How far a cache moves a model from what it says with the fp16 cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from .teacher import (
    CacheFactory,
    Progress,
    Steps,
    forced_logits,
    log_probabilities,
    negative_log_likelihood,
    numbers,
)


@dataclass(frozen=True)
class Agreement:
    """Per scored position of one window: `nll` of the text with the tested cache and with the
    reference cache, `kl` = KL(reference || tested) in nats, `top1`: the same most likely token.
    `stored_bytes`: the cache's nbytes at the end of the window (sum over layers)."""

    nll: list[float]
    reference_nll: list[float]
    kl: list[float]
    top1: list[bool]
    stored_bytes: int


def agreement(
    model: Any,
    window: Sequence[int],
    reference: CacheFactory,
    tested: Mapping[str, CacheFactory],
    steps: Steps,
    progress: Progress,
) -> dict[str, Agreement]:
    """Compare several caches with the reference at the same positions of one window.

    All of them advance together, chunk by chunk, so that the reference is computed once and
    memory holds one chunk's logits of two caches, never a whole window's.
    """
    caches = {name: factory(model) for name, factory in tested.items()}
    runs = {name: forced_logits(model, cache, window, steps) for name, cache in caches.items()}
    columns: dict[str, tuple[list[float], list[float], list[bool]]] = {
        name: ([], [], []) for name in tested
    }
    reference_nll: list[float] = []
    for position, logits in forced_logits(model, reference(model), window, steps):
        expected = log_probabilities(logits)
        best = mx.argmax(logits, axis=-1)
        reference_nll += numbers(negative_log_likelihood(logits, window, position))
        for name, run in runs.items():
            _, other = next(run)
            kl = mx.sum(mx.exp(expected) * (expected - log_probabilities(other)), axis=-1)
            nll, divergences, top1 = columns[name]
            nll += numbers(negative_log_likelihood(other, window, position))
            divergences += numbers(kl)
            top1 += numbers(mx.argmax(other, axis=-1) == best)
        progress("agreement", position + logits.shape[0], steps.length)
    return {
        name: Agreement(nll, reference_nll, kl_, top1, stored_bytes(caches[name]))
        for name, (nll, kl_, top1) in columns.items()
    }


def stored_bytes(cache: Sequence[Any]) -> int:
    """Bytes that a prompt cache holds: the sum of its layers' nbytes."""
    return sum(int(layer.nbytes) for layer in cache)


def greedy_tokens(
    model: Any,
    prompt: Sequence[int],
    cache_factory: CacheFactory,
    count: int,
    progress: Progress,
) -> list[int]:
    """The `count` most likely tokens after `prompt`, one at a time, end-of-text not heeded."""
    from mlx_lm.generate import generate_step

    steps = generate_step(
        mx.array(list(prompt)), model, max_tokens=count, prompt_cache=cache_factory(model)
    )
    tokens: list[int] = []
    for token, _ in steps:
        tokens.append(int(token))
        progress("greedy", len(tokens), count)
    return tokens


@dataclass(frozen=True)
class GreedyAgreement:
    """`equal` of `count` positions hold the same token; `first_difference` is None if all do."""

    equal: int
    count: int
    first_difference: int | None


def greedy_agreement(reference: Sequence[int], tested: Sequence[int]) -> GreedyAgreement:
    """Compare two greedy continuations of one prompt position by position.

    After the first difference the two texts are different texts: `first_difference` is the
    number to look at, `equal` is what readers ask for.
    """
    if len(reference) != len(tested):
        raise ValueError(f"{len(reference)} and {len(tested)} tokens cannot be compared")
    same = [a == b for a, b in zip(reference, tested, strict=True)]
    return GreedyAgreement(sum(same), len(same), same.index(False) if not all(same) else None)
