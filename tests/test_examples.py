"""Every example runs to its end, on small sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def test_there_is_a_test_for_each() -> None:
    tested = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tested


def test_generate(tmp_path: Path, tiny_model_path: Path) -> None:
    arguments = ("--model", str(tiny_model_path), "--max-tokens", "4", "--scheme", "small")
    printed = run("generate.py", *arguments, cwd=tmp_path)
    assert "uncompressed" in printed


def test_long_document_reads_once(tmp_path: Path, tiny_model_path: Path) -> None:
    (tmp_path / "text.txt").write_text("The lighthouse of Hillock was built in 1871 by Ann Reed.")
    arguments = ("--file", "text.txt", "--model", str(tiny_model_path), "Who built it?")
    first = run("long_document.py", *arguments, cwd=tmp_path)
    assert "reading: " in first
    saved = (tmp_path / "document.safetensors").read_bytes()
    second = run("long_document.py", *arguments, cwd=tmp_path)
    assert "reading: " not in second
    assert "tokens from document.safetensors" in second
    assert first.partition("> Who")[2] == second.partition("> Who")[2]
    assert (tmp_path / "document.safetensors").read_bytes() == saved


@pytest.mark.usefixtures("demo_model_path")
def test_server_client(tmp_path: Path) -> None:
    printed = run("server_client.py", "--max-tokens", "12", cwd=tmp_path)
    assert "> What is the capital of France?" in printed
    assert "Paris" in printed


def test_tune_and_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "cache"))
    printed = run("tune_and_export.py", "--out", "records.json", cwd=tmp_path)
    assert printed.count("<- chosen") == 1
    exported = json.loads((tmp_path / "records.json").read_text())
    assert len(exported["records"]) == 1


def test_check_kernel(tmp_path: Path) -> None:
    printed = run("check_kernel.py", cwd=tmp_path)
    assert "is at fault" in printed
    assert "is right" in printed
