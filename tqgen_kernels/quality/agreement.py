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


def greedy_forced(
    model: Any,
    prompt: Sequence[int],
    continuation: Sequence[int],
    cache_factory: CacheFactory,
    steps_of: int = 8,
) -> list[int]:
    """The most likely token after each prefix of `continuation`, which is given: what this cache
    would say in the reference's place. `steps_of`: tokens a chunk."""
    text = [*prompt, *continuation]
    steps = Steps(len(text) - 1, len(prompt) - 1, decode_step=steps_of)
    said: list[int] = []
    for _, logits in forced_logits(model, cache_factory(model), text, steps):
        said += numbers(mx.argmax(logits, axis=-1))
    return said


@dataclass(frozen=True)
class Greedy:
    """Greedy tokens after a prompt: `free`, each after this cache's own tokens; `forced`, each
    after the reference's."""

    free: list[int]
    forced: list[int]


@dataclass(frozen=True)
class GreedyAgreement:
    """Of `count` tokens, the first `prefix` of the free texts are equal (after the first difference
    the two are different texts), and `equal` choices are equal after the same words."""

    prefix: int
    equal: int
    count: int


def greedy_agreement(reference: Sequence[int], tested: Greedy) -> GreedyAgreement:
    """Compare greedy tokens with the reference's own. Raises ValueError for unequal lengths."""
    count = len(reference)
    if not count == len(tested.free) == len(tested.forced):
        raise ValueError(
            f"{count}, {len(tested.free)} and {len(tested.forced)} tokens cannot be compared"
        )
    same = [a == b for a, b in zip(reference, tested.free, strict=True)]
    equal = sum(a == b for a, b in zip(reference, tested.forced, strict=True))
    return GreedyAgreement([*same, False].index(False), equal, count)
