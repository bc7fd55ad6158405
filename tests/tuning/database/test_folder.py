from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT, PROBLEM, config, tuned
from tqgen_kernels.codegen.problem import EncodeProblem
from tqgen_kernels.files import cache_dir, write_atomically
from tqgen_kernels.tuning.database.folder import Database, TuningWarning, user_database
from tqgen_kernels.tuning.record.record import encode, seal

KEY = ENVIRONMENT.device_key


def test_one_file_a_device_and_problem(database: Database) -> None:
    record = tuned(database=database)
    assert list(database.files()) == [database.path(KEY, PROBLEM)]
    path = database.path(KEY, PROBLEM)
    assert path.parent.name == "cuda-sm_90-nvidia_h100_80gb_hbm3-132cores"
    assert path.name.startswith("attend_key_dim_128_value_dim_128_")
    assert path.name.endswith("_kv_heads_8_batch_1_context_4096.json")
    assert database.load(KEY, PROBLEM) == record
    assert list(database.records("attend")) == [record]
    assert list(database.records("encode")) == []
    with pytest.raises(ValueError, match="encode, dequantize"):
        list(database.records("../atend"))


def test_a_problem_is_found_in_its_bucket(database: Database) -> None:
    from dataclasses import replace as with_fields

    record = tuned(database=database)
    assert database.load(KEY, with_fields(PROBLEM, context=1500)) == record
    assert database.load(KEY, with_fields(PROBLEM, context=4097)) is None


def test_nothing_is_there_at_first(database: Database) -> None:
    assert database.load(KEY, PROBLEM) is None
    assert list(database.records()) == []


def test_a_damaged_file_is_kept_aside_and_never_loaded(
    database: Database, notices: list[str]
) -> None:
    tuned(database=database)
    path = database.path(KEY, PROBLEM)
    for number in range(2):
        path.write_bytes(b'{"schema": "tqgen-tuning/1", "cut off')
        assert database.load(KEY, PROBLEM) is None
        assert not path.exists()
        assert len(notices) == number + 1
        assert "is kept as" in notices[-1]
    aside = sorted(p.name for p in path.parent.iterdir() if "damaged" in p.name)
    assert aside == [f"{path.name}.damaged", f"{path.name}.damaged-2"]
    assert database.load(KEY, PROBLEM) is None
    assert len(notices) == 2


def test_a_damaged_file_is_not_overwritten(database: Database, notices: list[str]) -> None:
    path = database.path(KEY, PROBLEM)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"garbage")
    record = database.save(tuned())
    assert database.load(KEY, PROBLEM) == record
    assert path.with_name(path.name + ".damaged").read_bytes() == b"garbage"
    assert len(notices) == 1


def test_a_newer_format_is_neither_read_nor_overwritten(
    database: Database, notices: list[str]
) -> None:
    path = database.path(KEY, PROBLEM)
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"schema": "tqgen-tuning/2"}')
    assert database.load(KEY, PROBLEM) is None
    assert path.exists()
    assert "tqgen-tuning/2" in notices[0]
    record = database.save(tuned())
    assert database.load(KEY, PROBLEM) == record
    assert path.with_name(path.name + ".other").read_bytes() == b'{"schema": "tqgen-tuning/2"}'


def test_a_file_under_another_name_is_not_used(database: Database, notices: list[str]) -> None:
    tuned(database=database)
    path = database.path(KEY, PROBLEM)
    elsewhere = database.root / "cuda-sm_80-other" / path.name
    elsewhere.parent.mkdir()
    path.rename(elsewhere)
    assert database.load("cuda-sm_80-other", PROBLEM) is None
    assert "another problem or device" in notices[0]
    assert elsewhere.exists()


def test_saving_merges_candidate_by_candidate(database: Database) -> None:
    whole = tuned({3: 5e-4})
    one = seal(replace(whole, results=whole.results[:3], selected={"lanes": 0}, stopped="user"))
    other = seal(replace(whole, results=whole.results[3:], stopped="user"))
    database.save(one)
    merged = database.save(other)
    assert merged.results == whole.results
    assert merged.selected == {"lanes": 3}
    assert database.load(KEY, PROBLEM) == merged


def test_a_result_from_the_final_is_not_lost_to_a_shorter_one(database: Database) -> None:
    record = tuned()
    database.save(record)
    short = tuple(replace(r, final_samples=()) for r in record.results)
    merged = database.save(seal(replace(record, results=short, stopped="user")))
    assert merged.result(config(3)) == record.result(config(3))
    assert merged.stopped == "complete"


def test_less_effort_does_not_replace_more(database: Database) -> None:
    from tqgen_kernels.tuning.record.policy import QUICK

    record = database.save(tuned())
    quick = seal(replace(record, policy=QUICK))
    assert database.save(quick) == record
    assert database.load(KEY, PROBLEM) == record
    assert database.save(quick, anew=True).policy == QUICK


def test_other_templates_replace_a_record(database: Database) -> None:
    record = database.save(tuned())
    newer = seal(replace(record, template_sha256="cd" * 32))
    assert database.save(newer) == newer


def test_a_folder_that_cannot_be_written_costs_one_notice(
    tmp_path: Path, notices: list[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    record = tuned(database=Database(blocked / "tuned", notice=notices.append))
    assert record.selected == {"lanes": 3}
    assert len(notices) == 1
    assert "TQGEN_CACHE_DIR" in notices[0]


def test_a_full_disk_costs_one_notice_and_no_record(
    database: Database, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tuned(database=database)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    changed = seal(replace(stored, template_sha256="cd" * 32))
    assert database.save(changed) == changed
    assert "No space left on device" in notices[0]
    assert database.load(KEY, PROBLEM) == stored
    assert not list(database.root.rglob("*.tmp"))


def test_bundled_records_are_not_touched(database: Database, notices: list[str]) -> None:
    tuned(database=database)
    bundled = Database(database.root, writable=False, notice=notices.append)
    path = bundled.path(KEY, PROBLEM)
    path.write_bytes(b"garbage")
    assert bundled.load(KEY, PROBLEM) is None
    assert path.read_bytes() == b"garbage"
    bundled.save(tuned())
    assert path.read_bytes() == b"garbage"
    assert len(notices) == 2


def test_a_folder_in_the_place_of_a_record(database: Database, notices: list[str]) -> None:
    database.path(KEY, PROBLEM).mkdir(parents=True)
    assert database.load(KEY, PROBLEM) is None
    assert list(database.records()) == []
    assert "is not used" in notices[-1]


def test_where_records_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    assert user_database().root == tmp_path / "tuned"
    monkeypatch.delenv("TQGEN_CACHE_DIR")
    assert cache_dir().name == "tqgen_kernels"


def test_without_a_notice_a_warning_is_given(tmp_path: Path) -> None:
    database = Database(tmp_path)
    path = database.path(KEY, EncodeProblem(64, 3))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"garbage")
    with pytest.warns(TuningWarning, match="damaged"):
        database.load(KEY, EncodeProblem(64, 3))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, None)  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_records_of_another_machine_do_not_mix_in(database: Database) -> None:
    mine = database.save(tuned())
    theirs = seal(replace(tuned({1: 1e-5}), provenance="imported"))
    database.save(theirs)
    assert database.load(KEY, PROBLEM) == theirs  # import decides before whether it may
    assert encode(mine) != encode(theirs)
