from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from tqgen_kernels.quality.perplexity import perplexity
from tqgen_kernels.quality.teacher import Steps, forced_logits, windows


def silent(what: str, done: int, total: int) -> None:
    return None


@pytest.mark.parametrize(
    "steps", [Steps(100, 50, 16, 7), Steps(64, 0, 512, 64), Steps(9, 8, 3, 1), Steps(10, 5, 99, 99)]
)
def test_chunks_cover_the_window_once_in_order(steps: Steps) -> None:
    positions = [p for start, stop in steps.chunks for p in range(start, stop)]
    assert positions == list(range(steps.length))
    for start, stop in steps.chunks:
        assert stop <= steps.score_from or start >= steps.score_from
        limit = steps.prefill_step if start < steps.score_from else steps.decode_step
        assert stop - start <= limit


@pytest.mark.parametrize(
    "wrong",
    [
        {"length": 10, "score_from": 10},
        {"length": 10, "score_from": -1},
        {"decode_step": 0},
        {"prefill_step": 0},
    ],
)
def test_steps_refuse_nonsense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Steps(**wrong)


def test_windows_do_not_overlap_and_spread_over_the_text() -> None:
    made = windows(range(1000), Steps(99, 10), 4)
    assert [len(w) for w in made] == [100] * 4
    assert [w[0] for w in made] == [0, 250, 500, 750]
    assert made[3] == list(range(750, 850))


def test_windows_of_too_short_a_text() -> None:
    with pytest.raises(ValueError, match=r"need 303 tokens; the text has 300"):
        windows(range(300), Steps(100, 50), 3)


def test_forced_logits_are_those_of_one_pass(model: Any, tokens: list[int]) -> None:
    steps = Steps(70, 33, 10, 8)
    expected = np.array(model(mx.array([tokens[:70]]))[0])
    seen = 0
    for position, logits in forced_logits(model, make_prompt_cache(model), tokens[:71], steps):
        rows = expected[position : position + logits.shape[0]]
        np.testing.assert_allclose(np.array(logits), rows, rtol=1e-4, atol=1e-4)
        seen += logits.shape[0]
    assert seen == 70 - 33


def test_perplexity_is_that_of_one_pass(model: Any, tokens: list[int]) -> None:
    steps = Steps(60, 20, 16, 4)
    made = windows(tokens, steps, 2)
    losses = []
    for window in made:
        logits = np.array(model(mx.array([window[:-1]]))[0], dtype=np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses += [-log_p[i, window[i + 1]] for i in range(20, 60)]
    done: list[int] = []
    found = perplexity(
        model, made, make_prompt_cache, steps, lambda what, now, total: done.append(now)
    )
    assert found == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)
    assert done == sorted(done)
    assert done[-1] == 120
