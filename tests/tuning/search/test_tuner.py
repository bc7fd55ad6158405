from __future__ import annotations

import itertools
import math
import random
from statistics import median

import pytest
from msgspec.structs import replace

from tests.tuning.fake import (
    ENVIRONMENT,
    PROBLEM,
    TEMPLATE,
    FakeRunner,
    config,
    steady,
    task,
    tuned,
)
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.space import Candidate
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.policy import DEFAULT, QUICK
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.record.soundness import unsound
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant, road, road_name
from tqgen_kernels.tuning.search.strategy import Exhaustive, Guided, RandomSearch, SuccessiveHalving
from tqgen_kernels.tuning.search.tuner import Progress, Task, tune


def run(runner: FakeRunner, over: Task | None = None, **options: object) -> Record:
    return tune(over or task(), runner, ENVIRONMENT, clock=runner.clock, **options)  # type: ignore[arg-type]


def test_the_fastest_verified_candidate_wins_and_everything_is_kept() -> None:
    record = tuned()
    assert record.selected == {"lanes": 3}
    assert unsound(record) is None
    assert record.stopped == "complete"
    by_config = {str(r.key): r for r in record.results}
    assert len(by_config) == 8  # six candidates, one road, one removed
    assert by_config["lanes=-1"].outcome == "constraints"
    assert by_config["lanes=-1"].detail == "too few lanes"
    winner = by_config["lanes=3"]
    assert len(winner.final_samples) == 2 * DEFAULT.rounds
    assert winner.bandwidth == pytest.approx(1e7 / 5e-4 / 1e9)
    assert winner.roofline == pytest.approx(winner.bandwidth / 3350)
    assert len(by_config["lanes=1"].samples) == DEFAULT.samples


def test_the_default_races_to_the_end_even_when_it_is_slow() -> None:
    record = tuned({0: 0.5, 3: 1e-4})
    default = record.result(config(0))
    assert default is not None
    assert len(default.final_samples) == 2 * DEFAULT.rounds


def test_equal_candidates_go_to_the_earlier_declared() -> None:
    noise = random.Random(7)
    runner = FakeRunner(lambda c, call: 1e-3 * (1 + 0.01 * noise.random()))
    assert run(runner).selected == {"lanes": 0}


def drifting(device: int, run_number: int) -> FakeRunner:
    """40 candidates, many close to the best; noise of 0.5 %, and a drift of 2 % up and down."""
    speeds, noise = random.Random(device), random.Random(1000 * device + run_number)
    base = {config(i): 1e-3 * (1 + speeds.expovariate(8)) for i in range(40)}

    def seconds(c: Config, call: int) -> float:
        drift = 1 + 0.02 * math.sin(call / 37 + run_number)
        return base.get(c, 1e-2) * drift * (1 + abs(noise.gauss(0, 0.005)))

    return FakeRunner(seconds)


def test_two_runs_on_one_device_mostly_choose_alike() -> None:
    alike = naive = 0
    for device in range(20):
        records = [run(drifting(device, run_number), task(40)) for run_number in (0, 1)]
        alike += records[0].selected == records[1].selected
        fastest = [min(r.results, key=lambda x: median(x.samples or [9])).index for r in records]
        naive += fastest[0] == fastest[1]
    assert alike >= 16
    assert alike > naive + 4  # taking the fastest of phase 1 would be this much worse


def test_a_difference_within_the_noise_of_the_samples_is_a_tie() -> None:
    noise = random.Random(3)

    def seconds(c: Config, call: int) -> float:
        base = 0.95e-3 if c == config(4) else 1e-3
        return base * noise.uniform(0.6, 1.4)

    record = run(FakeRunner(seconds))
    assert record.noise > DEFAULT.tolerance
    assert record.selected == {"lanes": 0}


def test_a_road_that_is_faster_than_every_kernel_wins() -> None:
    record = tuned({}, road_time=1e-4)
    assert record.selected == {"road": "mlx"}
    assert record.winner is not None
    assert record.winner.road == "mlx"


def test_a_road_loses_a_tie() -> None:
    assert tuned({}, road_time=1e-3).selected == {"lanes": 0}


@pytest.mark.parametrize("kind", ["constraints", "compile", "launch", "timeout", "correctness"])
def test_an_invalid_candidate_is_kept_with_its_kind_and_detail(kind: str) -> None:
    error = InvalidVariant(kind, "the reason")  # type: ignore[arg-type]
    runner = FakeRunner(steady({3: 1e-4}), errors={config(3): error})
    record = run(runner)
    result = record.result(config(3))
    assert result is not None
    assert (result.outcome, result.detail) == (kind, "the reason")
    assert record.selected == {"lanes": 0}
    assert unsound(record) is None


@pytest.mark.parametrize("error", [1e-3, float("nan"), float("inf")])
def test_what_is_not_verified_is_never_timed(error: float) -> None:
    wrong = Verification(error, 1e-5, "relative")
    runner = FakeRunner(steady({3: 1e-9}), verifications={config(3): wrong})
    record = run(runner)
    assert all(c != config(3) for c, _ in runner.calls)
    assert record.result(config(3)).outcome == "correctness"  # type: ignore[union-attr]
    assert record.selected == {"lanes": 0}


@pytest.mark.parametrize("time", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_cannot_be_one_invalidates_the_candidate(time: float) -> None:
    record = run(FakeRunner(steady({3: time})))
    assert record.result(config(3)).outcome == "launch"  # type: ignore[union-attr]
    assert record.selected == {"lanes": 0}


def test_a_candidate_that_fails_in_the_final_is_out() -> None:
    def seconds(c: Config, call: int) -> float:
        if c == config(3):
            return 1e-4 if call < 80 else float("nan")
        return 1e-3

    runner = FakeRunner(seconds)
    record = run(runner)
    assert len(runner.calls) > 80
    assert record.result(config(3)).outcome == "launch"  # type: ignore[union-attr]
    assert record.selected == {"lanes": 0}
    assert unsound(record) is None


@pytest.mark.parametrize("fails_at", [1, 80])
def test_an_error_of_the_device_is_one_candidate_out(fails_at: int, database: Database) -> None:
    def seconds(c: Config, call: int) -> float:
        if c == config(3) and call >= fails_at:
            raise RuntimeError("device lost its mind \udcff")
        return 5e-4 if c == config(3) else 1e-3

    record = run(FakeRunner(seconds), database=database)
    result = record.result(config(3))
    assert result is not None
    assert (result.outcome, result.detail) == ("launch", "device lost its mind ?")
    assert database.load(ENVIRONMENT.device_key, PROBLEM) == record


def test_nothing_works() -> None:
    errors = {c: InvalidVariant("compile", "no") for c in task().order}
    record = run(FakeRunner(steady({}), errors=errors))
    assert record.selected is None
    assert unsound(record) is None


def test_where_nothing_worked_a_rerun_tries_again(database: Database) -> None:
    errors = {c: InvalidVariant("compile", "no compiler") for c in task().order}
    run(FakeRunner(steady({}), errors=errors), database=database)
    record = run(FakeRunner(steady({3: 5e-4})), database=database)
    assert record.selected == {"lanes": 3}


def test_a_hopeless_candidate_is_left_after_one_sample() -> None:
    record = tuned({4: 5e-2})
    assert len(record.result(config(4)).samples) == 1  # type: ignore[union-attr]


def test_the_final_is_interleaved_there_and_back() -> None:
    runner = FakeRunner(steady({1: 0.9e-3, 2: 0.95e-3}))
    run(runner, task(3, roads=()))
    final = runner.calls[-6 * 2 :]  # one round of three, each after a launch thrown away
    assert [c["lanes"] for c, n in final if n > 1] == [0, 1, 2, 2, 1, 0]
    assert [n for _, n in final[::2]] == [1] * 6


def test_samples_last_alike_whatever_a_launch_takes() -> None:
    runner = FakeRunner(steady({0: 1e-3, 1: 1e-4, 2: 1e-5}))
    run(runner, task(3, roads=()))
    launches = {c["lanes"]: n for c, n in runner.calls}
    assert launches == {0: 2, 1: 20, 2: 200}


def test_quick_tries_few(database: Database) -> None:
    record = run(FakeRunner(steady({})), task(60), policy=QUICK)
    assert sum(1 for r in record.results if r.samples) == QUICK.limit + 2  # type: ignore[operator]


def test_interrupted_and_gone_on_with(database: Database) -> None:
    first = FakeRunner(steady({3: 5e-4}), interrupt_at=25)
    with pytest.raises(KeyboardInterrupt):
        run(first, database=database)
    partial = database.load(ENVIRONMENT.device_key, PROBLEM)
    assert partial is not None
    assert partial.stopped == "user"
    done = {r.key for r in partial.results if r.samples}
    assert config(0) in done
    assert len(done) < 7

    second = FakeRunner(steady({3: 5e-4}))
    record = run(second, database=database)
    assert record.stopped == "complete"
    assert record.selected == {"lanes": 3}
    for c in done:  # phase 1 is not repeated, only the final needs them
        kept = record.result(c)
        assert kept is not None
        assert kept.samples == partial.result(c).samples  # type: ignore[union-attr]
    assert database.load(ENVIRONMENT.device_key, PROBLEM) == record


def test_a_finished_record_is_not_measured_again(database: Database) -> None:
    record = tuned(database=database)
    runner = FakeRunner(steady({}))
    assert run(runner, database=database) == record
    assert run(runner, database=database, policy=QUICK) == record
    assert runner.calls == []


def test_again_measures_everything_anew(database: Database) -> None:
    tuned(database=database)
    record = run(FakeRunner(steady({1: 1e-4})), database=database, again=True)
    assert record.selected == {"lanes": 1}
    assert database.load(ENVIRONMENT.device_key, PROBLEM) == record


def test_a_new_config_reopens_only_itself(database: Database) -> None:
    tuned({0: 4e-4, 3: 5e-4}, database=database)
    runner = FakeRunner(steady({0: 4e-4, 3: 5e-4}))
    record = run(runner, task(7), database=database)
    assert record.stopped == "complete"
    assert record.result(config(6)).samples  # type: ignore[union-attr]
    retimed = {c for c, _ in runner.calls}
    assert config(6) in retimed
    assert not {config(1), config(2), config(4), config(5)} & retimed


def test_a_changed_text_is_measured_again(database: Database) -> None:
    tuned(database=database)
    runner = FakeRunner(steady({1: 1e-4}), text="v2")
    record = run(runner, replace_template(task(), "cd" * 32), database=database)
    assert record.selected == {"lanes": 1}
    assert {c for c, _ in runner.calls} >= {config(i) for i in range(6)}


def test_templates_that_give_the_same_texts_measure_nothing_again(database: Database) -> None:
    tuned(database=database)
    runner = FakeRunner(steady({1: 1e-4}))
    record = run(runner, replace_template(task(), "cd" * 32), database=database)
    assert record.selected == {"lanes": 3}
    assert record.template_sha256 == "cd" * 32
    assert not runner.calls


def test_a_failure_is_tried_again_when_its_text_has_changed(database: Database) -> None:
    error = InvalidVariant("compile", "no such function")
    first = FakeRunner(steady({3: 5e-4}), errors={config(1): error})
    assert run(first, database=database).result(config(1)).outcome == "compile"  # type: ignore[union-attr]
    same = FakeRunner(steady({1: 1e-4}))
    run(same, replace_template(task(), "cd" * 32), database=database)
    assert not same.calls
    mended = FakeRunner(steady({1: 1e-4}), text="v2")
    record = run(mended, replace_template(task(), "ef" * 32), database=database)
    assert record.selected == {"lanes": 1}


def test_changed_generator_code_with_the_same_templates_is_noticed(database: Database) -> None:
    first = FakeRunner(steady({3: 5e-4}), interrupt_at=60)
    with pytest.raises(KeyboardInterrupt):
        run(first, database=database)
    runner = FakeRunner(steady({1: 1e-4}), text="v2")
    record = run(runner, database=database)
    sources = {r.source_sha256 for r in record.results if r.outcome == "correct" and not r.road}
    assert sources == {runner.source_sha256(PROBLEM, config(i)) for i in range(6)}


def test_other_software_starts_over(database: Database) -> None:
    tuned(database=database)
    runner = FakeRunner(steady({1: 1e-4}))
    newer = replace(ENVIRONMENT, mlx="0.33.0")
    record = tune(task(), runner, newer, database=database, clock=runner.clock)
    assert record.selected == {"lanes": 1}
    assert record.environment.mlx == "0.33.0"


def test_partial_results_are_stored_while_it_runs(database: Database) -> None:
    seen = []

    def look(state: Progress) -> None:
        stored = database.load(ENVIRONMENT.device_key, PROBLEM)
        seen.append(0 if stored is None else len(stored.results))

    run(FakeRunner(lambda c, n: 0.5), task(20), database=database, progress=look)
    assert any(0 < count < 22 for count in seen)


def test_progress_tells_the_best_so_far() -> None:
    states: list[Progress] = []
    runner = FakeRunner(steady({3: 5e-4}))
    run(runner, progress=states.append, budget=Budget(100.0, runner.clock))
    assert [s.done for s in states[:7]] == [1, 2, 3, 4, 5, 6, 7]
    assert states[0].total == 7
    assert states[-1].best == pytest.approx(5e-4)
    assert states[-1].best_config == config(3)
    assert states[-1].left is not None
    assert {s.phase for s in states} == {"candidates", "final"}


def test_ranked_candidates_come_first() -> None:
    from dataclasses import replace as with_fields

    runner = FakeRunner(steady({}))
    ranked = with_fields(task(), rank=lambda c: -int(c["lanes"]))
    run(runner, ranked, strategy=Exhaustive())
    order = list(dict.fromkeys(c for c, _ in runner.calls))
    assert order[:4] == [config(0), road("mlx"), config(5), config(4)]


@pytest.mark.parametrize("strategy", [SuccessiveHalving(), RandomSearch(count=40)])
def test_strategies_find_a_clear_winner(strategy: SuccessiveHalving | RandomSearch) -> None:
    record = run(FakeRunner(steady({17: 1e-4})), task(40), strategy=strategy)
    assert record.selected == {"lanes": 17}
    assert record.strategy == strategy.name


def hilly(budget: float, strategy: Guided | Exhaustive) -> Record:
    """3 tunables of 6 values whose costs multiply; each launch takes 1 ms at best."""
    costs = {i: 1 + abs(i - 4) / 5 for i in range(6)}
    space = [
        Candidate(Config.of(a=a, b=b, c=c)) for a, b, c in itertools.product(range(6), repeat=3)
    ]
    hill = Task(PROBLEM, tuple(space), space[0].config, TEMPLATE)
    cost = {p.config: 1e-3 * math.prod(costs[int(v)] for _, v in p.config.values) for p in space}
    runner = FakeRunner(lambda config, call: cost[config])
    return run(runner, hill, strategy=strategy, budget=Budget(budget, runner.clock))


def test_the_guided_search_climbs_while_time_is_short() -> None:
    guided, exhaustive = (hilly(2.0, s) for s in (Guided(), Exhaustive()))
    assert guided.stopped == exhaustive.stopped == "budget"
    assert guided.selected == {"a": 4, "b": 4, "c": 4}
    assert exhaustive.selected != guided.selected
    assert hilly(20.0, Guided()).stopped == "complete"


def test_halving_spends_less_than_exhaustive() -> None:
    times = {i: 1e-3 * (1 + i / 40) for i in range(40)}
    everything, halving = FakeRunner(steady(times)), FakeRunner(steady(times))
    run(everything, task(40))
    run(halving, task(40), strategy=SuccessiveHalving())
    assert len(halving.calls) < 0.8 * len(everything.calls)


def test_random_search_draws_the_same_every_time() -> None:
    tried = []
    for _ in range(2):
        runner = FakeRunner(steady({}))
        run(runner, task(40), strategy=RandomSearch(count=5))
        tried.append([c for c in runner.prepared if road_name(c) is None])
    assert tried[0] == tried[1]
    assert len(tried[0]) == 6  # five and the default


def replace_template(original: Task, template: str) -> Task:
    from dataclasses import replace as with_fields

    return with_fields(original, template_sha256=template)
