from __future__ import annotations

import pytest

from tests.tuning.fake import ENVIRONMENT, FakeRunner, config, steady, task, tuned
from tqgen_kernels.tuning.record.policy import DEFAULT
from tqgen_kernels.tuning.search import measure
from tqgen_kernels.tuning.search.replay import ReplayRunner
from tqgen_kernels.tuning.search.runner import InvalidVariant
from tqgen_kernels.tuning.search.session import tune_all
from tqgen_kernels.tuning.search.strategy import STRATEGIES, strategy
from tqgen_kernels.tuning.search.tuner import tune


def test_a_sample_lasts_about_as_long_as_wanted() -> None:
    assert measure.launches_for(1e-3, DEFAULT) == 2
    assert measure.launches_for(1e-5, DEFAULT) == 200
    assert measure.launches_for(1e-9, DEFAULT) == DEFAULT.max_launches
    assert measure.launches_for(5.0, DEFAULT) == 1


def test_calibration_sees_through_the_cost_of_an_evaluation() -> None:
    """40 us an evaluation on top of 10 us a launch."""
    launches, once = measure.calibrate(lambda n: 40e-6 + 10e-6 * n, DEFAULT)
    assert 150 <= launches <= 200
    assert once < 12e-6


def test_drift_falls_on_all_alike() -> None:
    clock = [0]

    def launch(n: int) -> float:
        clock[0] += 1
        return n * 1e-3 * (1 + 0.01 * clock[0])

    samples = measure.there_and_back(dict.fromkeys("abcd", (launch, 4)))
    means = [sum(pair) / 2 for pair in samples.values()]
    assert max(means) / min(means) == pytest.approx(1.0, abs=1e-12)


def test_the_candidate_that_fails_in_turn_is_named() -> None:
    def broken(n: int) -> float:
        raise InvalidVariant("timeout", "hung")

    with pytest.raises(measure.Failed) as failed:
        measure.there_and_back({"a": (lambda n: 1.0, 1), "b": (broken, 1)})
    assert failed.value.key == "b"
    assert failed.value.error.kind == "timeout"


def test_what_one_problem_does_not_need_the_others_get() -> None:
    runner = FakeRunner(steady({}, 1e-3))
    records = tune_all(
        [task(2), task(2), task(400)], runner, ENVIRONMENT, seconds=4.0, clock=runner.clock
    )
    assert [r.stopped for r in records] == ["complete", "complete", "budget"]
    assert 3.4 < runner.now < 4.1


def test_a_replayed_record_gives_the_same_choice_under_every_strategy() -> None:
    times = {i: 1e-3 * (1 + 0.1 * ((7 * i) % 12)) for i in range(12)} | {5: 6e-4}
    record = tuned(times, count=12)
    for name in STRATEGIES:
        runner = ReplayRunner(record)
        again = tune(task(12), runner, record.environment, strategy=strategy(name))
        assert again.selected == record.selected == {"lanes": 5}
        assert runner.launches > 0


def test_replay_tells_what_was_invalid_and_what_it_does_not_know() -> None:
    errors = {config(1): InvalidVariant("compile", "no such type")}
    runner = FakeRunner(steady({}), errors=errors)
    record = tune(task(3), runner, ENVIRONMENT, clock=runner.clock)
    again = tune(task(4), ReplayRunner(record), ENVIRONMENT)
    outcomes = {str(r.key): (r.outcome, r.detail) for r in again.results}
    assert outcomes["lanes=1"] == ("compile", "no such type")
    assert outcomes["lanes=3"][0] == "constraints"


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="guided, exhaustive, halving, random"):
        strategy("genetic")
