from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT, PROBLEM, accept, tuned
from tqgen_kernels.tuning.database.exchange import export_tuned, import_tuned
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.prune import prunable
from tqgen_kernels.tuning.database.select import select
from tqgen_kernels.tuning.record.record import encode

KEY = ENVIRONMENT.device_key


@pytest.fixture
def away(tmp_path: Path) -> Database:
    return Database(tmp_path / "away")


def test_records_travel(database: Database, away: Database, tmp_path: Path) -> None:
    record = tuned(database=database)
    tuned(environment=replace(ENVIRONMENT, architecture="sm_80"), database=database)
    file = tmp_path / "tuned.json"
    assert export_tuned(database.records(), file) == 2
    outcomes = import_tuned(file, away, validate=accept)
    assert [o.status for o in outcomes] == ["imported", "imported"]
    arrived = away.load(KEY, PROBLEM)
    assert arrived is not None
    assert arrived.provenance == "imported"
    assert arrived.results == record.results
    choice = select(PROBLEM, ENVIRONMENT, away, None, accept)
    assert choice.origin == "exact record"


def test_a_single_record_file_can_be_imported(database: Database, away: Database) -> None:
    tuned(database=database)
    (outcome,) = import_tuned(database.path(KEY, PROBLEM), away, validate=accept)
    assert outcome.status == "imported"


def test_what_was_measured_here_stays(database: Database, away: Database, tmp_path: Path) -> None:
    mine = tuned(database=away)
    file = tmp_path / "tuned.json"
    export_tuned([tuned({1: 1e-4})], file)
    (outcome,) = import_tuned(file, away, validate=accept)
    assert outcome.status == "kept"
    assert away.load(KEY, PROBLEM) == mine
    (outcome,) = import_tuned(file, away, validate=accept, replace_own=True)
    assert outcome.status == "imported"
    assert away.load(KEY, PROBLEM) != mine


def test_tuning_here_replaces_an_imported_record(away: Database, tmp_path: Path) -> None:
    file = tmp_path / "tuned.json"
    export_tuned([tuned({1: 1e-4})], file)
    import_tuned(file, away, validate=accept)
    tuned(database=away)
    stored = away.load(KEY, PROBLEM)
    assert stored is not None
    assert (stored.provenance, stored.selected) == ("measured", {"lanes": 3})


def test_one_bad_record_does_not_spoil_the_others(away: Database, tmp_path: Path) -> None:
    good = msgspec.Raw(encode(tuned()))
    bad = {**json.loads(bytes(good)), "noise": 0.7}
    wrong = msgspec.Raw(encode(replace(tuned(), selected={"lanes": 1})))
    file = tmp_path / "tuned.json"
    file.write_bytes(
        msgspec.json.encode({"schema": "tqgen-tuning-export/1", "records": [bad, 7, wrong, good]})
    )
    outcomes = import_tuned(file, away, validate=accept)
    assert [o.status for o in outcomes] == ["refused", "refused", "refused", "imported"]
    assert "hash" in outcomes[0].reason
    assert "samples" in outcomes[2].reason


def test_a_record_that_this_version_cannot_render_is_refused(
    away: Database, tmp_path: Path
) -> None:
    file = tmp_path / "tuned.json"
    export_tuned([tuned()], file)
    (outcome,) = import_tuned(file, away)
    assert outcome.status == "refused"
    assert "not in the space" in (outcome.reason or "")
    assert list(away.files()) == []


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"schema": "x", "records": []}', b"\x00", b'{"records": [', b"[" * 10**5],
)
def test_what_is_no_export_is_refused(data: bytes, away: Database, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.json is no export"):
        import_tuned(file, away)


def test_a_file_with_millions_of_records_is_refused(away: Database, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(
        b'{"schema": "tqgen-tuning-export/1", "records": [' + b"0," * 3_000_000 + b"0]}"
    )
    with pytest.raises(ValueError, match="is no export"):
        import_tuned(file, away)
    with file.open("r+b") as big:
        big.truncate(65 * 2**20)
    with pytest.raises(ValueError, match="bytes, more than"):
        import_tuned(file, away)


def test_a_missing_file_is_an_os_error(away: Database, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        import_tuned(tmp_path / "none.json", away)


def test_prune_finds_what_cannot_be_used(database: Database, notices: list[str]) -> None:
    tuned(database=database)
    tuned(environment=replace(ENVIRONMENT, architecture="sm_80"), database=database)
    path = database.path(KEY, PROBLEM)
    damaged = path.with_name("attend_x.json.damaged")
    damaged.write_text("x")
    cut_off = path.with_name(".attend.json.abc.tmp")
    cut_off.write_text("x")
    fresh = path.with_name(".attend.json.def.tmp")
    fresh.write_text("x")
    import os

    os.utime(cut_off, (0, 0))
    found = dict(prunable(database, accept))
    assert found == {damaged: "kept aside", cut_off: "a write that was cut off"}

    def refuse(problem: object, record: object, result: object) -> str:
        return "other templates"

    found = dict(prunable(database, refuse))
    assert len(found) == 4
    assert found[path] == "other templates"
