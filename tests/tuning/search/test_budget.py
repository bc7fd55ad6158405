"""How long tuning may take, and that it takes no longer."""

from __future__ import annotations

import pytest

from tests.tuning.fake import ENVIRONMENT, FakeRunner, config, steady, task
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.budget import Budget, OutOfTime, parse_seconds
from tqgen_kernels.tuning.search.runner import road_name
from tqgen_kernels.tuning.search.tuner import tune


def run(runner: FakeRunner, seconds: float, count: int = 6) -> Record:
    budget = Budget(seconds, runner.clock)
    return tune(task(count), runner, ENVIRONMENT, budget=budget, clock=runner.clock)


def test_a_budget_counts_from_its_start() -> None:
    now = [100.0]
    budget = Budget(10.0, lambda: now[0])
    now[0] = 108.0
    assert budget.left == pytest.approx(2.0)
    budget.check()
    budget.reserve = 2.5
    with pytest.raises(OutOfTime):
        budget.check()
    Budget(None).check()
    with pytest.raises(ValueError, match="budget"):
        Budget(float("nan"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("60s", 60.0), ("1.5m", 90.0), ("2 min", 120.0), ("1h", 3600)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-5", "5 days", "1e9", "nan", "s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        parse_seconds(text)


def test_the_default_is_measured_even_with_no_time() -> None:
    runner = FakeRunner(steady({3: 1e-5}))
    record = run(runner, 0.0)
    assert record.stopped == "budget"
    assert record.selected == {"lanes": 0}
    assert {c for c, _ in runner.calls} == {config(0)}


def test_a_budget_is_kept_and_leaves_room_for_the_final() -> None:
    runner = FakeRunner(steady({}, 1e-3))
    record = run(runner, 1.0, 500)
    assert record.stopped == "budget"
    assert runner.now < 1.2
    assert record.winner is not None
    assert record.winner.final_samples


def test_no_candidate_is_begun_that_would_take_longer_than_what_is_left() -> None:
    """The first kernel shows how long one takes to compile and verify."""
    runner = FakeRunner(steady({1: 5e-4, 2: 1e-4}, 1e-3), prepare_seconds=4.0)
    record = run(runner, 14.0)
    assert [c for c in runner.prepared if road_name(c) is None] == [config(0), config(1)]
    assert runner.now < 14.0
    assert (record.stopped, record.selected) == ("budget", {"lanes": 1})
