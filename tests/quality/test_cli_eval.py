from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tqgen_kernels.cli.main import app
from tqgen_kernels.quant.layered import LayeredScheme, write_scheme
from tqgen_kernels.quant.scheme import Scheme

TEXT = "It was the best of times, it was the worst of times, it was the age of wisdom. "
SMALL = ["--windows", "1", "--length", "128", "--greedy", "4", "--no-passkey"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT * 20)
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_table_json_and_files(folder: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--model", folder, "--text", text, "--out", out, *SMALL, "--schemes", "mlx-4,k4v3"]
    code, printed, _ = run(*common)
    assert code == 0
    assert "k4v3" in printed
    assert {path.name for path in out.iterdir()} == {
        "kl-bits.png",
        "results.json",
        "table.md",
        "units",
    }
    code, printed, _ = run(*common, "--json")
    assert code == 0
    document = json.loads(printed)
    assert [row["name"] for row in document["rows"]] == ["fp16", "mlx-4", "k4v3"]
    assert document == json.loads((out / "results.json").read_text())


def test_each_measure_can_be_left_out_and_a_file_measured(
    folder: Path, text: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.json"
    write_scheme(own, LayeredScheme((Scheme(4, 2), Scheme(2, 2))), {})
    out = tmp_path / "out"
    common = ["--model", folder, "--text", text, "--out", out, *SMALL, "--json"]
    kl = []
    for flags in ([], ["--no-centre"], ["--guard", "off"]):
        code, printed, _ = run(*common, "--schemes", f"k2v2,{own}", *flags)
        assert code == 0
        rows = json.loads(printed)["rows"]
        assert [row["name"] for row in rows] == ["fp16", "k2v2", "own"]
        assert [row["bits"] for row in rows] == [16, 2.25, 2.75]
        kl.append([row["kl_mean"] for row in rows[1:]])
    assert kl[0] != kl[1]
    assert kl[0] == kl[2]


def test_fresh_measures_again(folder: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--model", folder, "--text", text, "--out", out, *SMALL, "--schemes", "fp16"]
    assert run(*common)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()}
    assert run(*common)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()}
    assert run(*common, "--fresh")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()}
    assert after.keys() == before.keys()
    assert all(after[path] > before[path] for path in before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schemes", "k9v9"], "k4v2"),
        (["--windows", "99"], "Take at least 1"),
        (["--score-from", "500"], "below the window's length"),
        (["--text", "no/such/file"], "no/such/file"),
        (["--guard", "maybe"], "use one of off, warn, on"),
        (["--schemes", "no/such/scheme.json"], "no/such/scheme.json"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, folder: Path, text: Path, tmp_path: Path
) -> None:
    common = ["--model", folder, "--text", text, "--out", tmp_path / "out", *SMALL]
    code, _, error = run(*common, *arguments)
    assert code == 2
    assert message in " ".join(error.split())
    assert error.splitlines()[-1].startswith(("error:", "│", "╰"))
    assert not (tmp_path / "out" / "results.json").exists()


def test_text_that_is_not_utf8(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("caf\xe9 ".encode("latin-1") * 400)
    code, _, error = run("--model", folder, "--text", tmp_path / "latin.txt", *SMALL)
    assert code == 2
    assert "is not UTF-8 text" in error
