"""Several problems in one budget: first compiled, then raced."""

from __future__ import annotations

from dataclasses import replace

from tests.tuning.fake import ENVIRONMENT, PROBLEM, FakeRunner, config, steady, task, tuned
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.search.runner import road_name
from tqgen_kernels.tuning.search.session import tune_all
from tqgen_kernels.tuning.search.tuner import Progress


def test_all_tasks_are_proven_in_turns_before_anything_is_timed() -> None:
    runner = FakeRunner(steady({}), proof_seconds=1.0)
    states: list[Progress] = []
    other = replace(PROBLEM, context=16384)
    tasks = [task(3), task(3, other)]
    tune_all(tasks, runner, ENVIRONMENT, clock=runner.clock, progress=states.append)
    expected = [(p, config(n)) for n in range(3) for p in (PROBLEM, other)]
    assert runner.proven == expected
    phases = [state.phase for state in states]
    assert phases[:6] == ["compile"] * 6
    assert "compile" not in phases[6:]
    assert (states[5].done, states[5].total, states[5].problem) == (6, 6, None)


def test_proving_takes_half_of_the_time_and_what_is_proven_is_tried_first() -> None:
    runner = FakeRunner(steady({5: 1e-4}), proof_seconds=2.5)
    (record,) = tune_all([task(6)], runner, ENVIRONMENT, seconds=10.0, clock=runner.clock)
    assert [c for _, c in runner.proven] == [config(0), config(1)]
    kernels = [c for c in runner.prepared if road_name(c) is None]
    assert kernels[:2] == [config(0), config(1)]
    assert record.selected == {"lanes": 5}  # the rest of the time goes to the others
    assert record.stopped == "complete"


def test_time_that_later_tasks_do_not_need_goes_back_to_the_first(database: Database) -> None:
    runner = FakeRunner(steady({5: 1e-4}), prepare_seconds=2.0)
    tasks = [task(8), task(1, replace(PROBLEM, context=16384))]
    options = {"seconds": 30.0, "clock": runner.clock}
    first, second = tune_all(tasks, runner, ENVIRONMENT, database=database, **options)  # type: ignore[arg-type]
    assert (first.stopped, second.stopped) == ("complete", "complete")
    assert first.selected == {"lanes": 5}
    assert first == database.load(ENVIRONMENT.device_key, PROBLEM)
    assert 15.0 < runner.now < 30.0


def test_a_finished_task_is_not_compiled_again(database: Database) -> None:
    record = tuned(database=database)
    runner = FakeRunner(steady({3: 5e-4}), proof_seconds=1.0)
    assert tune_all([task()], runner, ENVIRONMENT, database=database) == [record]
    assert (runner.proven, runner.prepared) == ([], [])
