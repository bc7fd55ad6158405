"""Which record decides for a problem, and why the others do not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal, Protocol

from tqgen_kernels.codegen.problem import Problem, family_of, format_problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.buckets import same_text, smaller_contexts, tuned_as
from tqgen_kernels.tuning.record.decide import decide
from tqgen_kernels.tuning.record.environment import Environment, mismatches
from tqgen_kernels.tuning.record.label import config_label, format_time
from tqgen_kernels.tuning.record.record import Record, Result

Origin = Literal[
    "exact record", "nearest context", "same architecture", "bundled", "default", "mlx"
]
# Why a record's result must not be used for a problem; None if it may be.
Validate = Callable[[Problem, Record, Result], str | None]


class Records(Protocol):
    """What is asked for records: a Database, or what another process sent."""

    def load(self, device_key: str, problem: Problem) -> Record | None: ...

    def records(self, family: str = "") -> Iterator[Record]: ...


@dataclass(frozen=True)
class Choice:
    """What runs. config None: no kernel of ours but `road`: "mlx" is the portable path, "sdpa"
    MLX's attention over dequantised keys and values.
    """

    config: Config | None
    origin: Origin
    detail: str
    road: str | None = None


@dataclass(frozen=True)
class Explanation:
    """One step of the chain: what it would give, or why it gives nothing."""

    origin: Origin
    what: str
    used: bool
    why: str


@dataclass(frozen=True)
class _Step:
    origin: Origin
    record: Record
    exact: bool  # the record of this very problem: a road that won there may win here


def select(
    problem: Problem,
    environment: Environment,
    database: Records,
    bundled: Records | None,
    validate: Validate,
    *,
    default: Config | str | None = None,
) -> Choice:
    """The first that may be used of: exact record, nearest smaller context, same architecture,
    bundled, declared default; without a default the portable path.

    default: a str names a road that runs until a kernel was faster than it at this problem, or at
    another context of it.
    """
    problem = tuned_as(problem)
    for step in _chain(problem, environment, database, bundled):
        choice = _judge(problem, environment, step, validate, isinstance(default, str))
        if isinstance(choice, Choice):
            return choice
    return _last(default)


def explain(
    problem: Problem,
    environment: Environment,
    database: Records,
    bundled: Records | None,
    validate: Validate,
    *,
    default: Config | str | None = None,
) -> list[Explanation]:
    """Every step of the chain that `select` takes, and those it does not come to."""
    problem = tuned_as(problem)
    lines: list[Explanation] = []
    used: Origin | None = None
    seen = set()
    for step in _chain(problem, environment, database, bundled):
        what = f"{step.record.problem} on {step.record.environment.device}"
        seen.add(step.origin)
        choice = _judge(problem, environment, step, validate, isinstance(default, str))
        if isinstance(choice, str):
            lines.append(Explanation(step.origin, what, False, choice))
        elif used is None:
            used = choice.origin
            lines.append(Explanation(step.origin, what, True, choice.detail))
        else:
            why = f"usable, but {_article(used)} comes first"
            lines.append(Explanation(step.origin, what, False, why))
    last = _last(default)
    why = last.detail if used is None else f"not needed: {_article(used)} comes first"
    lines.append(Explanation(last.origin, str(default or "portable path"), used is None, why))
    for origin in ("exact record", "nearest context", "same architecture", "bundled"):
        if origin not in seen:
            lines.append(Explanation(origin, "-", False, "there is no record"))
    order = list(Origin.__args__)  # type: ignore[attr-defined]
    return sorted(lines, key=lambda line: order.index(line.origin))


def _article(origin: str) -> str:
    return f"the {origin} record" if origin in ("nearest context", "bundled") else f"the {origin}"


def _chain(
    problem: Problem, environment: Environment, database: Records, bundled: Records | None
) -> Iterator[_Step]:
    taken: set[tuple[str, str]] = set()
    for step in _own(problem, environment, database):
        taken.add((step.record.environment.device_key, step.record.problem))
        yield step
    for record in _related(problem, environment, database):
        if (record.environment.device_key, record.problem) not in taken:
            yield _Step("same architecture", record, record.problem == format_problem(problem))
    if bundled is not None:
        taken = set()
        for step in _own(problem, environment, bundled):
            taken.add((step.record.environment.device_key, step.record.problem))
            yield _Step("bundled", step.record, step.exact)
        for record in _related(problem, environment, bundled):
            if (record.environment.device_key, record.problem) not in taken:
                yield _Step("bundled", record, record.problem == format_problem(problem))


def _own(problem: Problem, environment: Environment, database: Records) -> Iterator[_Step]:
    """Records of this device: the problem itself, then its smaller contexts."""
    key = environment.device_key
    record = database.load(key, problem)
    if record is not None:
        yield _Step("exact record", record, True)
    for smaller in smaller_contexts(problem):
        record = database.load(key, smaller)
        if record is not None:
            yield _Step("nearest context", record, False)


def _related(problem: Problem, environment: Environment, database: Records) -> list[Record]:
    """Records of the architecture: this problem on another device, then the same text at the
    nearest size, then other problems of the family, the most frequent winner first."""
    family = family_of(problem)
    found = [
        (r, r.parsed_problem)
        for r in database.records(family)
        if r.environment.architecture == environment.architecture
    ]
    wins = Counter(_kernel(r) for r, p in found if not same_text(p, problem))

    def nearness(item: tuple[Record, Problem]) -> tuple[object, ...]:
        record, other = item
        if other == problem:
            return (0, 0.0, 0, record.problem)
        apart = abs(math.log2(other.context / problem.context))
        if same_text(other, problem):
            return (1, apart, 0, record.problem)
        return (2, 0.0, -wins[_kernel(record)], apart, record.problem)

    return [record for record, _ in sorted(found, key=nearness)]


def _kernel(record: Record) -> Config | None:
    result = decide(record.results, record.policy.tolerance, roads=False).result
    return None if result is None else result.key


def _judge(
    problem: Problem,
    environment: Environment,
    step: _Step,
    validate: Validate,
    must_win: bool,
) -> Choice | str:
    """The choice that a record gives, or why it gives none. must_win: a kernel counts only where it
    was faster than any road, at this problem or at another context of it."""
    record = step.record
    differences = mismatches(record.environment, environment)
    hard = [d.text for d in differences if d.hard]
    if hard:
        return "another device: " + "; ".join(hard)
    result = record.winner
    if not step.exact and must_win:
        if replace(record.parsed_problem, context=problem.context) != problem:
            return "another problem: a kernel has to win at this one, at whatever context"
        if result is not None and result.road:
            return f"there {result.road} was faster than any kernel"
    if not step.exact:
        result = decide(record.results, record.policy.tolerance, roads=False).result
    if result is None:
        return "nothing in it was correct" if step.exact else "no kernel in it was correct"
    reason = validate(problem, record, result)
    if reason is not None:
        return reason
    soft = [d.text for d in differences]
    detail = describe(record, result)
    if soft:
        detail += f"; measured elsewhere: {'; '.join(soft)}"
    return Choice(
        config=None if result.road else result.key,
        origin=step.origin,
        detail=detail,
        road=result.road,
    )


def describe(record: Record, result: Result) -> str:
    """`result` in one line: time, against the default, share of the roofline."""
    seconds = median(result.timed)
    text = f"{config_label(result.key)}: {format_time(seconds)}"
    default = record.result(Config.of(**record.default))
    if default is not None and default.timed and default.key != result.key:
        text += f", the default takes {median(default.timed) / seconds:.2f} times as long"
    if result.bandwidth is not None:
        text += f", {result.bandwidth:.4g} GB/s"
    if result.roofline is not None:
        text += f" = {result.roofline:.0%} of the peak"
    if record.stopped != "complete":
        text += f" (tuning stopped early: {record.stopped})"
    return text


def _last(default: Config | str | None) -> Choice:
    if isinstance(default, str):
        return Choice(None, "default", f"no record says that a kernel beats {default}", default)
    if default is None:
        return Choice(None, "mlx", "no kernel backend: plain MLX operations", road="mlx")
    return Choice(default, "default", "no usable record: the declared default")
