from __future__ import annotations

from dataclasses import replace as with_fields
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT, PROBLEM, accept, config, tuned
from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.select import Choice, explain, select
from tqgen_kernels.tuning.record.buckets import bucketed, same_text, smaller_contexts
from tqgen_kernels.tuning.record.environment import Environment
from tqgen_kernels.tuning.record.record import Record, Result, seal

OTHER_DEVICE = replace(ENVIRONMENT, device="NVIDIA H200", memory_bytes=1)
OLDER = replace(ENVIRONMENT, architecture="sm_80", device="NVIDIA A100-SXM4-80GB")


@pytest.fixture
def bundled(tmp_path: Path, notices: list[str]) -> Database:
    return Database(tmp_path / "bundled", notice=notices.append)


def choose(database: Database, bundled: Database | None = None, **options: object) -> Choice:
    given = {"validate": accept, "default": config(0), **options}
    problem = given.pop("problem", PROBLEM)
    return select(problem, ENVIRONMENT, database, bundled, **given)  # type: ignore[arg-type]


def at(context: int, problem: Problem = PROBLEM) -> Problem:
    return with_fields(problem, context=context)


def test_the_exact_record_decides(database: Database) -> None:
    tuned(database=database)
    choice = choose(database)
    assert choice.config == config(3)
    assert choice.origin == "exact record"
    assert choice.detail.startswith(
        "lanes=3: 500 us, the default takes 2.00 times as long, 20 GB/s = 1% of the peak"
    )
    assert choose(database, problem=at(1025)) == choice


def test_the_nearest_smaller_context_comes_next(database: Database) -> None:
    tuned({1: 5e-4}, problem=at(1024), database=database)
    tuned({2: 5e-4}, problem=at(4096), database=database)
    tuned({4: 5e-4}, problem=at(65536), database=database)
    choice = choose(database, problem=at(16384))
    assert (choice.config, choice.origin) == (config(2), "nearest context")


def test_a_larger_context_counts_as_same_architecture(database: Database) -> None:
    tuned({4: 5e-4}, problem=at(65536), database=database)
    tuned({5: 5e-4}, problem=at(262144), database=database)
    choice = choose(database)
    assert (choice.config, choice.origin) == (config(4), "same architecture")


def test_the_same_problem_on_a_sister_device(database: Database) -> None:
    tuned({1: 5e-4}, problem=at(65536), database=database)
    tuned({2: 5e-4}, environment=OTHER_DEVICE, database=database)
    choice = choose(database)
    assert (choice.config, choice.origin) == (config(2), "same architecture")
    assert "device 'NVIDIA H200'" in choice.detail


def test_other_problems_vote(database: Database) -> None:
    for gqa, winner in ((1, 5), (2, 4), (8, 4)):
        problem = with_fields(PROBLEM, gqa=gqa)
        tuned({winner: 5e-4}, problem=problem, database=database)
    choice = choose(database)
    assert (choice.config, choice.origin) == (config(4), "same architecture")


def test_another_architecture_is_never_used(database: Database) -> None:
    tuned(environment=OLDER, database=database)
    assert choose(database).origin == "default"


def test_bundled_records_come_after_those_of_this_machine(
    database: Database, bundled: Database
) -> None:
    tuned({2: 5e-4}, database=bundled)
    choice = choose(database, bundled)
    assert (choice.config, choice.origin) == (config(2), "bundled")
    tuned({1: 5e-4}, problem=with_fields(PROBLEM, gqa=1), database=database)
    assert choose(database, bundled).config == config(1)


def test_a_nearby_bundled_record_is_used_too(database: Database, bundled: Database) -> None:
    tuned({2: 5e-4}, problem=at(1024), database=bundled)
    tuned({4: 5e-4}, environment=OTHER_DEVICE, database=bundled)
    choice = choose(database, bundled)
    assert (choice.config, choice.origin) == (config(2), "bundled")


def test_the_default_then_the_portable_path(database: Database) -> None:
    assert choose(database) == Choice(
        config(0), "default", "no usable record: the declared default"
    )
    last = choose(database, default=None)
    assert (last.config, last.origin, last.road) == (None, "mlx", "mlx")


def test_a_road_that_won_is_chosen_for_its_very_problem_only(database: Database) -> None:
    tuned({2: 5e-4}, road_time=1e-4, database=database)
    here = choose(database)
    assert (here.config, here.road, here.origin) == (None, "mlx", "exact record")
    longer = choose(database, problem=at(65536))
    assert (longer.config, longer.origin) == (config(2), "nearest context")


def test_where_a_road_is_the_default_a_kernel_has_to_win(database: Database) -> None:
    last = choose(database, default="sdpa")
    assert (last.config, last.road, last.origin) == (None, "sdpa", "default")
    tuned({2: 5e-4}, road_time=1e-4, problem=at(4096), database=database)
    assert choose(database, problem=at(65536), default="sdpa").origin == "default"
    lines = explain(at(65536), ENVIRONMENT, database, None, accept, default="sdpa")
    assert "mlx was faster than any kernel" in lines[1].why
    tuned({2: 5e-4}, road_time=9e-4, problem=at(16384), database=database)
    longer = choose(database, problem=at(65536), default="sdpa")
    assert (longer.config, longer.origin) == (config(2), "nearest context")
    other = with_fields(at(65536), kv_heads=3)
    assert choose(database, problem=other).origin == "same architecture"
    assert choose(database, problem=other, default="sdpa").origin == "default"


def test_software_of_another_version_is_named(database: Database) -> None:
    tuned(environment=replace(ENVIRONMENT, mlx="0.31.0", os="Linux 5.0"), database=database)
    choice = choose(database)
    assert choice.origin == "exact record"
    assert "mlx 0.31.0, here 0.32.4" in choice.detail
    assert "os 'Linux 5.0'" in choice.detail


def test_a_patch_release_changes_nothing(database: Database) -> None:
    tuned(environment=replace(ENVIRONMENT, mlx="0.32.1", python="3.11.0"), database=database)
    assert "elsewhere" not in choose(database).detail


def test_an_imported_record_decides_too(database: Database) -> None:
    database.save(seal(replace(tuned(), provenance="imported")))
    assert choose(database).config == config(3)


def test_a_refused_record_gives_way_to_the_next(database: Database) -> None:
    tuned({1: 5e-4}, problem=at(1024), database=database)
    tuned({2: 5e-4}, database=database)

    def validate(problem: Problem, record: Record, result: Result) -> str | None:
        return "the text differs" if result.key == config(2) else None

    choice = choose(database, validate=validate)
    assert (choice.config, choice.origin) == (config(1), "nearest context")


def test_a_record_without_a_winner_gives_way(database: Database) -> None:
    record = tuned()
    invalid = tuple(
        replace(r, outcome="launch", samples=(), final_samples=(), detail="no")
        for r in record.results
    )
    database.save(seal(replace(record, results=invalid, selected=None)))
    assert choose(database).origin == "default"
    lines = explain(PROBLEM, ENVIRONMENT, database, None, accept, default=config(0))
    assert lines[0].why == "nothing in it was correct"


def test_a_record_that_was_cut_short_says_so(database: Database) -> None:
    database.save(seal(replace(tuned(), stopped="budget")))
    assert "tuning stopped early: budget" in choose(database).detail


def test_explain_tells_why_each_was_or_was_not_used(database: Database, bundled: Database) -> None:
    tuned({1: 5e-4}, problem=at(1024), database=database)
    tuned({2: 5e-4}, environment=OTHER_DEVICE, database=database)
    tuned({2: 5e-4}, environment=OLDER, database=database)
    tuned({4: 5e-4}, database=bundled)

    def validate(problem: Problem, record: Record, result: Result) -> str | None:
        return "its text is another now" if result.key == config(1) else None

    lines = explain(PROBLEM, ENVIRONMENT, database, bundled, validate, default=config(0))
    assert [(line.origin, line.used) for line in lines] == [
        ("exact record", False),
        ("nearest context", False),
        ("same architecture", True),
        ("bundled", False),
        ("default", False),
    ]
    assert [line.why for line in lines][0:2] == ["there is no record", "its text is another now"]
    assert lines[2].why.startswith("lanes=2: 500 us")
    assert "comes first" in lines[3].why
    assert "comes first" in lines[4].why
    choice = choose(database, bundled, validate=validate)
    assert choice.origin == next(line.origin for line in lines if line.used)


def test_explain_of_an_empty_database_ends_at_the_default(database: Database) -> None:
    lines = explain(PROBLEM, ENVIRONMENT, database, None, accept, default=config(0))
    assert [line.used for line in lines] == [False, False, False, False, True]
    assert lines[-1].origin == "default"


def test_buckets() -> None:
    assert bucketed(with_fields(PROBLEM, context=5000, batch=3)).context == 16384
    assert bucketed(with_fields(PROBLEM, context=5000, batch=3)).batch == 4
    assert [p.context for p in smaller_contexts(at(16384))] == [4096, 1024]
    assert smaller_contexts(at(1024)) == ()
    assert same_text(PROBLEM, with_fields(PROBLEM, context=1024, batch=8, kv_heads=2))
    assert not same_text(PROBLEM, with_fields(PROBLEM, q_len=2))


def test_a_device_key_is_a_plain_folder_name() -> None:
    hostile = Environment(backend="../../etc", architecture="/abs\0", device="..")
    assert hostile.device_key == "etc-abs"
    assert Environment(backend="", architecture="", device="").device_key == "unknown"
