from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mlx_lm.models.cache import QuantizedKVCache, make_prompt_cache

from tqgen_kernels.quality.agreement import (
    Greedy,
    GreedyAgreement,
    agreement,
    greedy_agreement,
    greedy_forced,
    greedy_tokens,
    stored_bytes,
)
from tqgen_kernels.quality.teacher import Steps, forced_logits

STEPS = Steps(80, 40, 16, 8)


def silent(what: str, done: int, total: int) -> None:
    return None


def two_bits(model: Any) -> list[Any]:
    return [QuantizedKVCache(group_size=32, bits=2) for _ in model.layers]


def test_the_reference_agrees_with_itself(model: Any, tokens: list[int]) -> None:
    found = agreement(
        model, tokens[:81], make_prompt_cache, {"same": make_prompt_cache}, STEPS, silent
    )["same"]
    assert found.kl == [0.0] * 40
    assert found.top1 == [True] * 40
    assert found.nll == found.reference_nll


def test_divergence_of_a_coarse_cache_against_float64(model: Any, tokens: list[int]) -> None:
    window = tokens[:81]
    found = agreement(
        model,
        window,
        make_prompt_cache,
        {"coarse": two_bits, "same": make_prompt_cache},
        STEPS,
        silent,
    )
    p, q = (
        np.concatenate(
            [np.array(row) for _, row in forced_logits(model, factory(model), window, STEPS)]
        ).astype(np.float64)
        for factory in (make_prompt_cache, two_bits)
    )
    p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (p, q))
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    coarse = found["coarse"]
    assert min(kl) > 0
    np.testing.assert_allclose(coarse.kl, kl, rtol=1e-3, atol=1e-6)
    assert coarse.top1 == (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
    np.testing.assert_allclose(coarse.nll, [-q[i, window[41 + i]] for i in range(40)], rtol=1e-4)
    assert found["same"].kl == [0.0] * 40


def test_stored_bytes_counts_all_layers(model: Any, tokens: list[int]) -> None:
    cache = make_prompt_cache(model)
    for _ in forced_logits(model, cache, tokens[:81], STEPS):
        pass
    assert stored_bytes(cache) == 2 * 2 * 256 * 64 * 4  # layers, sides, allocated tokens


def test_a_cache_given_its_own_words_says_them_again(model: Any, tokens: list[int]) -> None:
    prompt = tokens[:20]
    free = greedy_tokens(model, prompt, make_prompt_cache, 16, silent)
    assert greedy_forced(model, prompt, free, make_prompt_cache) == free
    spoiled = [(t + 1) % 256 for t in free]
    forced = greedy_forced(model, prompt, spoiled, make_prompt_cache)
    assert forced[0] == free[0]  # nothing of the continuation is known yet
    assert forced != free


def test_greedy_agreement_counts() -> None:
    same = greedy_agreement([1, 2, 3], Greedy([1, 2, 3], [1, 2, 3]))
    assert same == GreedyAgreement(prefix=3, equal=3, count=3)
    parted = greedy_agreement([1, 2, 3, 4], Greedy([1, 9, 3, 4], [1, 9, 3, 4]))
    assert parted == GreedyAgreement(prefix=1, equal=3, count=4)
    with pytest.raises(ValueError, match="cannot be compared"):
        greedy_agreement([1], Greedy([1, 2], [1]))
