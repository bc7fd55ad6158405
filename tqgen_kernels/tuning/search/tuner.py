"""One problem tuned: which candidates, in what order, for how long, and what is kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from tqgen_kernels.codegen.problem import Problem, format_problem
from tqgen_kernels.codegen.space import Candidate
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.buckets import tuned_as
from tqgen_kernels.tuning.record.decide import BASELINES, decide
from tqgen_kernels.tuning.record.environment import Environment, mismatches
from tqgen_kernels.tuning.record.policy import DEFAULT, Policy
from tqgen_kernels.tuning.record.record import Record, Result, Stopped, seal, space_sha256
from tqgen_kernels.tuning.search.budget import Budget, OutOfTime
from tqgen_kernels.tuning.search.race import Race, invalid
from tqgen_kernels.tuning.search.roofline import peak_bandwidth
from tqgen_kernels.tuning.search.runner import InvalidVariant, Runner, road_name
from tqgen_kernels.tuning.search.strategy import Guided, Strategy

SAVE_EVERY = 2.0  # seconds


@dataclass(frozen=True)
class Task:
    """What to tune.

    space: every point, the removed ones with the restriction that removes them.
    roads: configs of ways without a kernel of ours; they race too, and lose ties.
    rank: a static estimate, lower is more promising; None for declared order.
    """

    problem: Problem
    space: tuple[Candidate, ...]
    default: Config
    template_sha256: str
    roads: tuple[Config, ...] = ()
    rank: Callable[[Config], Any] | None = None

    @property
    def order(self) -> tuple[Config, ...]:
        """The candidates in declared order: the default, the others, the roads."""
        allowed = [c.config for c in self.space if c.removed_by is None]
        return (self.default, *(c for c in allowed if c != self.default), *self.roads)

    @property
    def removed(self) -> tuple[Candidate, ...]:
        return tuple(c for c in self.space if c.removed_by and c.config != self.default)


@dataclass(frozen=True)
class Progress:
    """Where tuning stands. best is the fastest so far, seconds per launch; left in seconds.

    phase: "compile" (of all problems together, `problem` is None), "candidates" or "final".
    """

    problem: Problem | None
    phase: str
    done: int
    total: int
    best: float | None = None
    best_config: Config | None = None
    left: float | None = None


def tune(
    task: Task,
    runner: Runner,
    environment: Environment,
    *,
    database: Database | None = None,
    policy: Policy = DEFAULT,
    strategy: Strategy | None = None,
    budget: Budget | None = None,
    again: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
    clock: Callable[[], float] = time.monotonic,
) -> Record:
    """The record of `task.problem` in its bucket, also stored in `database`.

    Goes on from a stored record of the same software and policy, text by text; `again` measures
    everything anew. The default is measured even when the budget is spent. On KeyboardInterrupt
    what was measured is stored before it is raised on.
    """
    strategy = strategy or Guided()
    budget = budget or Budget()
    task = dataclasses.replace(task, problem=tuned_as(task.problem))
    stored = None
    if database is not None and not again:
        stored = database.load(environment.device_key, task.problem)
    if stored is not None and _finished(stored, task, environment, policy, strategy):
        return stored

    saved_at = clock()
    anew = again

    def keep(stopped: Stopped) -> Record:
        nonlocal saved_at, anew
        found = _record(task, environment, policy, strategy, race, stopped)
        if database is not None:
            found = database.save(found, anew=anew)
            saved_at, anew = clock(), False
        return found

    def after(config: Config) -> None:
        progress(_progress(race, phase, budget, total))
        if clock() - saved_at >= SAVE_EVERY:
            keep("running")

    race = Race(
        problem=task.problem,
        order={config: index for index, config in enumerate(task.order)},
        runner=runner,
        policy=policy,
        peak=peak_bandwidth(environment),
        budget=budget,
        after=after,
        results=_known(stored, task, environment, policy, runner),
    )
    phase = "candidates"
    ranked = _ranked(task, policy)
    total = len(ranked) + len(task.roads)
    stopped: Stopped = "complete"
    try:
        budget.reserve = float("inf")
        try:
            once = race.trial(task.default, policy.samples, must=True)
            budget.reserve = _final_seconds(task, policy, once)
            for road in task.roads:
                race.trial(road, policy.samples)
            for configs in _proven_first(ranked, task.problem, runner):
                strategy.search(configs, race.trial, policy.samples)
        except OutOfTime:
            stopped = "budget"
        phase = "final"
        budget.reserve = 0.0
        try:
            race.final(policy.rounds)
        except OutOfTime:
            stopped = "budget"
    except BaseException:
        if race.results:
            keep("user")
        raise
    return keep(stopped)


def wanted(
    task: Task,
    runner: Runner,
    environment: Environment,
    *,
    database: Database | None = None,
    policy: Policy = DEFAULT,
    strategy: Strategy | None = None,
    again: bool = False,
) -> list[Config]:
    """The kernels that `tune` with these arguments would compile, the most promising first."""
    task = dataclasses.replace(task, problem=tuned_as(task.problem))
    stored = None
    if database is not None and not again:
        stored = database.load(environment.device_key, task.problem)
    if stored is not None and _finished(stored, task, environment, policy, strategy or Guided()):
        return []
    known = _known(stored, task, environment, policy, runner)
    ranked = _ranked(task, policy)
    return [c for c in ranked if c not in known or known[c].outcome == "correct"]


def _proven_first(
    configs: Sequence[Config], problem: Problem, runner: Runner
) -> Iterator[Sequence[Config]]:
    """What is compiled and verified already; then everything, if there is more."""
    proven = [c for c in configs if runner.is_proven(problem, c)]
    if len(proven) > 1:
        yield proven
    if len(proven) < len(configs):
        yield configs


def _finished(
    stored: Record, task: Task, environment: Environment, policy: Policy, strategy: Strategy
) -> bool:
    """Whether nothing is left to do that `policy` and `strategy` would do. Where nothing was
    correct the reason may be gone by now."""
    if not _same_ground(stored, environment) or stored.stopped != "complete":
        return False
    if stored.selected is None or stored.template_sha256 != task.template_sha256:
        return False
    if stored.space_sha256 != space_sha256(task.order):
        return False
    tried = {r.key for r in stored.results}
    enough = stored.policy == policy or stored.policy.effort > policy.effort
    return enough and (stored.strategy == strategy.name or set(task.order) <= tried)


def _same_ground(stored: Record, environment: Environment) -> bool:
    """Whether times in `stored` may stand beside times that are measured now."""
    return stored.provenance == "measured" and not mismatches(stored.environment, environment)


def _known(
    stored: Record | None,
    task: Task,
    environment: Environment,
    policy: Policy,
    runner: Runner,
) -> dict[Config, Result]:
    """What a stored record already says of today's candidates, where their text is the same:
    after an edit of a template, only what renders differently is measured again."""
    known: dict[Config, Result] = {}
    if stored is None or stored.selected is None or stored.policy != policy:
        return known
    if not _same_ground(stored, environment):
        return known
    by_config = {r.key: r for r in stored.results}
    for index, config in enumerate(task.order):
        result = by_config.get(config)
        if result is None or result.outcome == "constraints":
            continue
        try:
            text = runner.source_sha256(task.problem, config)
        except InvalidVariant:
            continue
        if result.source_sha256 == text:
            known[config] = replace(result, index=index)
    return known


def _final_seconds(task: Task, policy: Policy, once: float | None) -> float:
    """About how long the final takes where the default takes `once` a launch."""
    once = once or policy.sample_seconds
    runs = (2 * policy.finalists + 1 + len(task.roads)) * 2 * policy.rounds
    return runs * (max(policy.sample_seconds, once) + once)


def _ranked(task: Task, policy: Policy) -> Sequence[Config]:
    """The default, then at most policy.limit kernels, the most promising first."""
    rest = [c for c in task.order if c != task.default and c not in task.roads]
    if task.rank is not None:
        rest.sort(key=task.rank)  # stable: declared order among equals
    return (task.default, *rest[: policy.limit])


def _record(
    task: Task,
    environment: Environment,
    policy: Policy,
    strategy: Strategy,
    race: Race,
    stopped: Stopped,
) -> Record:
    tried = [r for r in race.results.values() if r.outcome != "correct" or r.timed]
    first = len(race.order)
    tried += [
        invalid(c.config, first + i, "constraints", c.removed_by or "")
        for i, c in enumerate(task.removed)
    ]
    results = tuple(sorted(tried, key=lambda r: r.index))
    decision = decide(results, policy.tolerance)
    return seal(
        Record(
            problem=format_problem(task.problem),
            environment=environment,
            policy=policy,
            template_sha256=task.template_sha256,
            space_sha256=space_sha256(task.order),
            results=results,
            default=dict(task.default.values),
            selected=None if decision.result is None else decision.result.config,
            noise=decision.noise,
            strategy=strategy.name,
            stopped=stopped,
            peak_bandwidth=race.peak,
            tuned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )


def _progress(race: Race, phase: str, budget: Budget, total: int) -> Progress:
    times = race.finals() or race.medians
    times = {c: t for c, t in times.items() if road_name(c) not in BASELINES}
    best = min(times, key=lambda c: (times[c], race.order[c]), default=None)
    return Progress(
        problem=race.problem,
        phase=phase,
        done=len(race.results),
        total=max(total, len(race.results)),
        best=None if best is None else times[best],
        best_config=best,
        left=budget.left,
    )
