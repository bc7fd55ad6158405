"""`tqgen autotune`, `db`, `report` and `variants`, as typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.tuning.fake import PROBLEM, tuned
from tqgen_kernels import autotuning
from tqgen_kernels.cli.main import COMMANDS, load
from tqgen_kernels.codegen.problem import AttendProblem, Problem, format_problem
from tqgen_kernels.quant.layered import LayeredScheme, write_scheme
from tqgen_kernels.quant.scheme import Scheme
from tqgen_kernels.tuning.database.folder import Database

ABSENT = "cuda" if sys.platform == "darwin" else "metal"
SMALL = "dequantize:head_dim=32,bits=2,kv_heads=1,dtype=float32"


def call(name: str, *arguments: object) -> tuple[int, str]:
    """Exit status and output; an error for the user counts as status 2 with its message."""
    command = next(c for c in COMMANDS if c.name == name)
    result = CliRunner().invoke(load(command), [str(a) for a in arguments])
    if isinstance(result.exception, ValueError | RuntimeError | OSError):
        return 2, str(result.exception)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    monkeypatch.setenv("COLUMNS", "200")
    return Database(tmp_path / "cache" / "tuned")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Problem, ...]]:
    """What `tqgen autotune` would tune; nothing runs."""
    seen: list[tuple[Problem, ...]] = []

    def autotune(problems: list[Problem], **options: object) -> list[object]:
        seen.append(tuple(problems))
        return []

    monkeypatch.setattr(autotuning, "autotune", autotune)
    return seen


def test_variants_lists_every_point_and_why_some_are_none(cache: Database) -> None:
    status, text = call("variants", "encode:head_dim=80,bits=3")
    assert status == 0
    assert " points, " in text
    assert "the power of two in head_dim" in text
    status, text = call("variants", "encode:head_dim=80,bits=3", "--json", "--removed")
    rows = json.loads(text)
    assert len(rows) >= 4
    assert all(row["removed_by"] for row in rows)
    assert call("variants", "encode:head_dim=81,bits=3")[0] == 2
    assert call("variants", SMALL, "--removed", "--candidates")[0] == 2


def test_problems_come_from_a_model(
    cache: Database, asked: list[tuple[Problem, ...]], tmp_path: Path
) -> None:
    config = {
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
        "dtype": "bfloat16",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    status, _ = call("autotune", "--model", tmp_path, "--context", 5000, "--scheme", "small")
    assert status == 0
    (problems,) = asked
    attends = [p for p in problems if isinstance(p, AttendProblem)]
    assert [(p.key_dim, p.key_bits, p.gqa, p.kv_heads, p.dtype) for p in attends] == [
        (128, 4, 4, 8, "bfloat16")
    ]


def test_problems_of_a_scheme_file_are_those_of_all_its_layers(
    cache: Database, asked: list[tuple[Problem, ...]], tmp_path: Path
) -> None:
    path = tmp_path / "own.json"
    write_scheme(path, LayeredScheme((Scheme(4, 2), Scheme(3, 2), Scheme(4, 2))), {})
    assert call("autotune", "--head-dim", 64, "--scheme", path)[0] == 0
    (problems,) = asked
    attends = [p for p in problems if isinstance(p, AttendProblem)]
    assert {(p.key_bits, p.value_bits) for p in attends} == {(4, 2), (3, 2)}
    assert len(set(problems)) == len(problems)


def test_problems_come_from_options(cache: Database, asked: list[tuple[Problem, ...]]) -> None:
    arguments = ("--head-dim", 64, "--key-bits", 4, "--value-bits", 2, "--gqa", 7, "--kv-heads", 2)
    assert call("autotune", *arguments)[0] == 0
    (problems,) = asked
    attend = next(p for p in problems if isinstance(p, AttendProblem))
    assert (attend.key_dim, attend.key_bits, attend.value_bits) == (64, 4, 2)
    assert (attend.gqa, attend.kv_heads) == (7, 2)
    call("autotune", "--bundled")
    assert len(asked[1]) > 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give one of"),
        ((SMALL, "--bundled"), "Give one of"),
        (("nonsense:x=1",), "is unknown"),
        (("--head-dim", 63), "63"),
        (("--head-dim", 64, "--key-bits", 9), "9"),
        (("--model", "/"), "no config.json"),
        ((SMALL, "--budget", "soon"), "is no time"),
        ((SMALL, "--strategy", "luck"), "guided, exhaustive, halving, random"),
        ((SMALL, "--scheme", "huge"), "is unknown"),
        ((SMALL, "--backend", "vulkan"), "is unknown"),
        ((SMALL, "--backend", ABSENT), "does not work here"),
    ],
)
def test_bad_arguments_get_one_message(
    cache: Database, arguments: tuple[object, ...], words: str
) -> None:
    status, text = call("autotune", *arguments)
    assert status != 0
    assert words in text
    assert "Traceback" not in text


def test_a_damaged_model_config(cache: Database, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert "cannot be read as JSON" in call("autotune", "--model", tmp_path)[1]
    (tmp_path / "config.json").write_text("[]")
    assert "no model config" in call("autotune", "--model", tmp_path)[1]


def test_tuning_on_the_emulator_end_to_end(cache: Database, tmp_path: Path) -> None:
    status, text = call("autotune", SMALL, "--quick", "--budget", "5m", "--json")
    assert status == 0
    (row,) = json.loads(text[text.index("[\n") :])
    assert row["selected"] is not None
    assert row["outcomes"]["correct"] >= 5
    assert row["stopped"] == "complete"
    status, text = call("autotune", SMALL, "--quick")  # there is nothing left to do
    assert status == 0
    assert f"{row['outcomes']['correct']} correct" in text

    status, text = call("db", "explain", SMALL, "--json")
    lines = json.loads(text)
    assert [line["origin"] for line in lines if line["used"]] == ["exact record"]

    page = tmp_path / "report.html"
    assert call("report", "--out", page, "--png", tmp_path / "png")[0] == 0
    assert "<svg" in page.read_text()
    assert len(list((tmp_path / "png").glob("*.png"))) == 1
    status, text = call("report", "--out", page, "--json")
    assert json.loads(text) == {"page": str(page), "problems": [row["problem"]], "pictures": []}

    exported = tmp_path / "e.json"
    assert call("db", "export", exported)[0] == 0
    assert "already there" in call("db", "export", exported)[1]
    assert call("db", "export", exported, "--force")[0] == 0
    status, text = call("db", "import", exported)
    assert status == 0
    assert "kept" in text
    cache.path(row_device(cache), next(cache.records()).parsed_problem).unlink()
    status, text = call("db", "import", exported)
    assert "1 imported" in text
    assert next(cache.records()).provenance == "imported"


def row_device(database: Database) -> str:
    return next(database.records()).environment.device_key


def test_interrupted_tuning_says_how_to_go_on(
    cache: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(autotuning, "autotune", interrupted)
    status, text = call("autotune", SMALL)
    assert status == 130
    assert "goes on from there" in text


def test_show_and_prune(cache: Database) -> None:
    assert [
        row for row in json.loads(call("db", "show", "--json")[1]) if row["where"] == "user"
    ] == []
    tuned(database=cache)
    _, text = call("db", "show", "--json")
    rows = [row for row in json.loads(text) if row["where"] == "user"]
    assert [row["problem"] for row in rows] == [format_problem(PROBLEM)]
    assert rows[0]["winner"].startswith("lanes=3: 500 us")
    assert "lanes=3" in call("db", "show", "--family", "attend")[1]

    _, text = call("db", "prune", "--dry-run")
    assert "its config is not in the space" in text
    assert len(list(cache.files())) == 1
    assert "1 files." in call("db", "prune")[1]
    assert list(cache.files()) == []


def test_a_damaged_record_is_a_notice(cache: Database) -> None:
    tuned(database=cache)
    (path,) = cache.files()
    path.write_bytes(b"garbage")
    status, text = call("db", "show")
    assert status == 0
    assert "notice: A damaged tuning record is kept as" in text
    assert not path.exists()


def test_import_of_a_bad_file_exits_with_a_message(cache: Database, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[]")
    status, text = call("db", "import", bad)
    assert (status, "no export" in text) == (2, True)
    assert call("db", "import", tmp_path / "none.json")[0] == 2
    record = tuned()
    from tqgen_kernels.tuning.database.exchange import export_tuned

    export_tuned([record], bad)
    status, text = call("db", "import", bad)
    assert status == 1
    assert "refused" in text
    assert "its config is not in the space" in text


def test_report_of_nothing(cache: Database) -> None:
    status, text = call("report")
    assert status == 2
    assert "tqgen autotune" in text
