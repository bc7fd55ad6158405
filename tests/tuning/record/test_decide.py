from __future__ import annotations

import random
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from tqgen_kernels.tuning.record.decide import MOST_NOISE, band, decide, spread
from tqgen_kernels.tuning.record.record import Result
from tqgen_kernels.tuning.search.runner import road

TOLERANCE = 0.02


def result(index: int, *samples: float, final: tuple[float, ...] = ()) -> Result:
    return Result(
        config={"lanes": index},
        index=index,
        outcome="correct",
        samples=samples,
        final_samples=final,
    )


def test_the_standard_error_of_a_median_is_estimated() -> None:
    noise = random.Random(1)
    medians, spreads = [], []
    for _ in range(400):
        samples = [noise.gauss(1.0, 0.05) for _ in range(25)]
        spreads.append(spread(samples))
        medians.append(sorted(samples)[12])
    mean = sum(medians) / len(medians)
    measured = (sum((m - mean) ** 2 for m in medians) / len(medians)) ** 0.5
    assert abs(sum(spreads) / len(spreads) / measured - 1) < 0.15


def test_the_band_is_at_least_the_tolerance() -> None:
    assert band([1.0] * 5, [1.0] * 5, TOLERANCE) == TOLERANCE
    assert 0.1 < band([0.95, 1.0, 1.05], [0.95, 1.0, 1.05], TOLERANCE) < MOST_NOISE
    assert band([0.5, 1.0, 1.5], [0.5, 1.0, 1.5], TOLERANCE) == MOST_NOISE


def test_noise_is_no_reason_to_run_something_far_slower() -> None:
    noisy = result(1, 1.0, 6.0, 6.1, 3.0, 0.9, 1.0, 4.0, 3.1)
    assert decide([result(0, *[7.4] * 8), noisy], TOLERANCE).result is noisy


def test_ties_go_to_the_earlier_declared() -> None:
    results = [result(0, 1.03), result(1, 1.015), result(2, 1.0)]
    assert decide(results, TOLERANCE).result is results[1]
    assert decide(results[::-1], TOLERANCE).result is results[1]


def test_only_the_final_counts_where_there_was_one() -> None:
    results = [result(0, 0.5, final=(1.0, 1.0)), result(1, 0.1), result(2, 0.6, final=(0.9, 0.9))]
    assert decide(results, TOLERANCE).result is results[2]


def test_roads_can_be_left_out() -> None:
    mlx = Result(config=dict(road("mlx").values), index=5, outcome="correct", samples=(0.1,))
    assert decide([result(0, 1.0), mlx], TOLERANCE).result is mlx
    kernel = decide([result(0, 1.0), mlx], TOLERANCE, roads=False).result
    assert kernel is not None
    assert kernel.road is None


def test_nobody_wins_where_nothing_was_timed() -> None:
    wrong = Result(config={"lanes": 1}, index=1, outcome="correctness")
    assert decide([wrong], TOLERANCE).result is None


times = st.lists(st.floats(1e-7, 1e-2), min_size=1, max_size=9)


@given(st.lists(times, min_size=1, max_size=8), st.randoms())
def test_the_choice_depends_on_samples_alone(
    groups: list[list[float]], shuffle: random.Random
) -> None:
    results = [result(i, *samples) for i, samples in enumerate(groups)]
    chosen = decide(results, TOLERANCE)
    mixed = list(results)
    shuffle.shuffle(mixed)
    assert decide(mixed, TOLERANCE) == chosen
    assert chosen.result is not None
    assert chosen.noise >= TOLERANCE
    best = min(median(samples) for samples in groups)
    assert median(chosen.result.samples) <= best * (1 + chosen.noise)
    earlier = groups[: chosen.result.index]
    assert all(median(samples) > best * (1 + TOLERANCE) for samples in earlier)
