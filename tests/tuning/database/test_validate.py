"""With the real families: the text is rendered anew and must be what was measured."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT, FakeRunner
from tqgen_kernels.codegen.problem import AttendProblem, DequantizeProblem, Problem
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.select import select
from tqgen_kernels.tuning.database.validate import validate
from tqgen_kernels.tuning.record.record import Record, Result, seal
from tqgen_kernels.tuning.search.runner import road, road_name
from tqgen_kernels.tuning.search.task import task_of
from tqgen_kernels.tuning.search.tuner import tune

PROBLEM = DequantizeProblem(64, 3)


class Renders(FakeRunner):
    """Made-up times of real texts."""

    def source_sha256(self, problem: Problem, config: Config) -> str:
        return "" if road_name(config) else render(problem, config).sha256


def real_record(fastest: Config) -> Record:
    runner = Renders(lambda c, call: 5e-4 if c == fastest else 1e-3)
    return tune(task_of(PROBLEM, ("mlx",)), runner, ENVIRONMENT, clock=runner.clock)


@pytest.fixture(scope="module")
def record() -> Record:
    fastest = task_of(PROBLEM).order[2]
    return real_record(fastest)


def winner(record: Record) -> Result:
    assert record.winner is not None
    return record.winner


def test_what_renders_as_measured_is_used(record: Record, database: Database) -> None:
    assert validate(PROBLEM, record, winner(record)) is None
    database.save(record)
    choice = select(PROBLEM, ENVIRONMENT, database, None, validate)
    assert choice.config == task_of(PROBLEM).order[2]


def test_another_text_is_refused(record: Record) -> None:
    other = replace(winner(record), source_sha256="0" * 64)
    assert "not the text that renders now" in (validate(PROBLEM, record, other) or "")


def test_templates_that_changed_elsewhere_leave_a_record_usable(record: Record) -> None:
    """Only what renders counts: of the winner, and of the default that it was measured against."""
    later = replace(record, template_sha256="0" * 64)
    others = [
        r for r in later.results if r.key not in (winner(later).key, task_of(PROBLEM).default)
    ]
    changed = tuple(replace(r, source_sha256="0" * 64) if r in others else r for r in later.results)
    assert others
    assert validate(PROBLEM, replace(later, results=changed), winner(later)) is None


def test_a_record_against_another_default_is_refused(record: Record) -> None:
    default = task_of(PROBLEM).default
    changed = tuple(
        replace(r, source_sha256="0" * 64) if r.key == default else r for r in record.results
    )
    other = replace(record, results=changed)
    assert "the default that it was measured" in (validate(PROBLEM, other, winner(other)) or "")
    chosen = other.result(default)
    assert chosen is not None
    assert "not the text that renders now" in (validate(PROBLEM, other, chosen) or "")


@pytest.mark.parametrize(
    "config",
    [
        {"lanes": 8, "at_once": 3},
        {"lanes": True, "at_once": 32},
        {"lanes": "../../../etc/passwd", "at_once": 32},
        {"lanes": "{{ 7 * 7 }}", "at_once": 32},
        {"lanes": 1, "at_once": 8},
        {"at_once": 32, "lanes": 8},
        {"lanes": 8},
        {"lanes": 8, "at_once": 32, "more": 1},
        {"lanes": "simd", "at_once": 1},
    ],
)
def test_a_config_outside_the_space_is_refused(
    record: Record, config: dict[str, bool | int | str]
) -> None:
    other = replace(winner(record), config=config)
    assert "not in the space" in (validate(PROBLEM, record, other) or "")


def test_a_config_that_the_asked_problem_does_not_allow(record: Record) -> None:
    wide = DequantizeProblem(512, 3)
    narrow = Config.of(lanes=2, at_once=32)
    result = record.result(narrow)
    assert result is not None
    assert validate(PROBLEM, record, result) is None
    assert "not in the space" in (validate(wide, record, result) or "")


def test_only_known_roads(record: Record) -> None:
    known = replace(winner(record), config=dict(road("mlx").values))
    assert validate(PROBLEM, record, known) is None
    unknown = replace(winner(record), config=dict(road("os.system").values))
    assert "no road named" in (validate(PROBLEM, record, unknown) or "")


def test_a_hostile_winner_falls_back(record: Record, database: Database) -> None:
    """A sound record with the right hash whose winner is in no space."""
    hostile = tuple(
        replace(r, config={"lanes": "../x", "at_once": 32}) if r.key == winner(record).key else r
        for r in record.results
    )
    database.save(seal(replace(record, results=hostile, selected=hostile[2].config)))
    default = task_of(PROBLEM).default
    choice = select(PROBLEM, ENVIRONMENT, database, None, validate, default=default)
    assert (choice.config, choice.origin) == (default, "default")


def test_the_ranking_tries_every_value_before_any_two_together() -> None:
    task = task_of(AttendProblem(128, 128, 4, 3, gqa=4, context=4096))
    assert task.rank is not None
    ranked = sorted(task.order, key=task.rank)
    assert ranked[0] == task.default
    one_change = [c for c in ranked if changes(task.default, c) == 1]
    assert [changes(task.default, c) for c in ranked[1:6]] == [1] * 5
    assert {name for c in one_change for name, v in c.values if v != task.default[name]} == {
        name for name, _ in task.default.values
    }


def test_launches_that_leave_the_device_idle_come_last() -> None:
    task = task_of(DequantizeProblem(128, 4, context=65536))
    assert task.rank is not None
    narrow, wide = (Config.of(lanes=lanes, at_once=32) for lanes in (1, 2))
    assert task.rank(narrow) > task.rank(wide)


def changes(a: Config, b: Config) -> int:
    return sum(a[name] != value for name, value in b.values)
