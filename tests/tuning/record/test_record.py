from __future__ import annotations

import hashlib
import json

import msgspec
import pytest
from msgspec.structs import replace

from tests.tuning.fake import PROBLEM, config, tuned
from tqgen_kernels.tuning.record.policy import DEFAULT
from tqgen_kernels.tuning.record.record import (
    MAX_BYTES,
    Damaged,
    OtherSchema,
    Record,
    decode,
    encode,
    printable,
    seal,
)
from tqgen_kernels.tuning.record.soundness import sound_record, unsound


@pytest.fixture(scope="module")
def record() -> Record:
    return tuned()


def test_a_record_reads_back_as_it_was_written(record: Record) -> None:
    assert decode(encode(record)) == record
    assert record.parsed_problem == PROBLEM


def test_a_file_that_was_laid_out_anew_counts_as_edited(record: Record) -> None:
    with pytest.raises(Damaged, match="edited"):
        decode(json.dumps(json.loads(encode(record))).encode())
    assert decode(encode(record).rstrip()) == record


def test_a_file_of_a_version_with_fewer_fields_is_read(record: Record) -> None:
    """As if `strategy` and `noise` had been added since."""
    tree = {**json.loads(encode(record)), "content_sha256": ""}
    del tree["strategy"], tree["noise"]
    bare = msgspec.json.encode(tree)
    digest = hashlib.sha256(bare).hexdigest().encode()
    older = decode(bare.replace(b'"content_sha256":""', b'"content_sha256":"' + digest + b'"'))
    assert (older.strategy, older.noise) == ("guided", 0.0)
    assert older.results == record.results


def test_the_file_says_all_that_was_asked_for(record: Record) -> None:
    stored = json.loads(encode(record))
    assert stored["schema"] == "tqgen-tuning/1"
    assert stored["environment"]["architecture"] == "sm_90"
    assert stored["policy"]["rounds"] == DEFAULT.rounds
    assert len(stored["template_sha256"]) == 64
    winner = next(r for r in stored["results"] if r["config"] == stored["selected"])
    assert len(winner["source_sha256"]) == 64
    assert winner["error"] <= winner["tolerance"]
    assert winner["bandwidth"] > 0
    assert 0 < winner["roofline"] < 1


def changed(record: Record, **fields: object) -> bytes:
    return msgspec.json.encode({**json.loads(encode(record)), **fields})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"{}", "schema"),
        (b"[" * 100_000, "Expected"),
        (b'{"schema": ' + b"[" * 100_000, "Expected"),
        (b'{"x": ' * 50_000, "."),
        (b"\xff\xfe", "."),
        (b'{"schema": "\\ud800"}', "."),
        (b'{"schema": "another tool"}', "no tuning record"),
        (b" " * (MAX_BYTES + 1), "at most"),
    ],
)
def test_what_is_no_record_is_damaged(data: bytes, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        decode(data)


@pytest.mark.parametrize(
    "fields",
    [
        {"noise": 0.5},
        {"results": []},
        {"selected": {"lanes": 1}},
        {"selected": {"lanes": 10**30}},
        {"selected": {"../../etc/passwd": 1}},
        {"selected": {"lanes": 1.5}},
        {"selected": {}},
        {"unknown": 1},
        {"noise": "x"},
        {"noise": -1},
        {"problem": "x" * 5000},
        {"template_sha256": "../x"},
        {"template_sha256": "A" * 64},
        {"policy": None},
    ],
)
def test_an_edited_record_is_damaged(record: Record, fields: dict[str, object]) -> None:
    with pytest.raises(Damaged):
        decode(changed(record, **fields))


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"-5", b"0", b"1e7", b'"1"'])
def test_a_sample_is_a_positive_finite_time(record: Record, number: bytes) -> None:
    data = encode(record)
    first = repr(record.results[0].samples[0]).encode()
    assert first in data
    with pytest.raises(Damaged):
        decode(data.replace(first, number, 1))


def test_another_major_version_is_left_alone(record: Record) -> None:
    with pytest.raises(OtherSchema, match="tqgen-tuning/2"):
        decode(changed(record, schema="tqgen-tuning/2", results="whatever"))


def test_unsound_records_say_why(record: Record) -> None:
    first, second, *rest = record.results
    cases = {
        "unknown": replace(record, problem="nothing:head_dim=1"),
        "not spelled in full": replace(record, problem="encode:head_dim=64,bits=3"),
        "no bucket": replace(record, problem=record.problem.replace("4096", "5000")),
        "twice": replace(record, results=(first, replace(second, config=first.config), *rest)),
        "out of order": replace(record, results=(second, first, *rest)),
        "outside its tolerance": replace(
            record, results=(replace(first, error=1.0), second, *rest)
        ),
        "never timed": replace(
            record, results=(replace(first, samples=(), final_samples=()), second, *rest)
        ),
        "although it is invalid": replace(
            record, results=(replace(first, outcome="launch"), second, *rest)
        ),
        "a kernel has a source hash": replace(
            record, results=(replace(first, source_sha256=""), second, *rest)
        ),
        "not the one that its samples give": replace(record, selected={"lanes": 1}),
    }
    for words, bad in cases.items():
        assert words in (unsound(decode(encode(bad))) or ""), words
    assert unsound(replace(record, selected=None)) is not None
    assert unsound(record) is None


def test_the_winner_is_found_by_its_config(record: Record) -> None:
    assert record.winner is not None
    assert record.winner.key == config(3)
    assert seal(record).content_sha256 == record.content_sha256


def test_text_from_files_is_safe_to_print() -> None:
    assert printable("a\x1b[31mb\nc") == "a?[31mb?c"
    assert len(printable("x" * 10_000)) == 200


def test_a_record_of_another_rule_is_decided_anew(record: Record) -> None:
    older = replace(record, rule="median-band/0", selected={"lanes": 5}, noise=0.5)
    assert unsound(older) is None
    read = sound_record(encode(older))
    assert read == record
    with pytest.raises(Damaged, match="samples give"):
        sound_record(encode(replace(older, rule=record.rule)))
