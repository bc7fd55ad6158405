from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tqgen_kernels.cli.main import app
from tqgen_kernels.demo import comparison, kernels
from tqgen_kernels.demo.comparison import Sizes
from tqgen_kernels.demo.model import write_model
from tqgen_kernels.quality.teacher import Steps


@pytest.fixture
def folder(tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(comparison, "CPU", Sizes(60, 8, Steps(128, 96, 64, 16)))
    monkeypatch.setattr(comparison, "GPU", Sizes(60, 8, Steps(128, 96, 64, 16)))
    write_model(tiny_gguf, tmp_path, "float32", lambda what, done, total: None)
    return tmp_path


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The problems that the demo asks to tune; nothing is tuned."""
    asked: list[Any] = []

    def tune(problems: Any, say: Any, progress: Any) -> list[Any]:
        asked.extend(problems)
        return []

    monkeypatch.setattr(kernels, "tune", tune)
    return asked


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["demo", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_two_answers_and_two_tables(folder: Path, tuned: list[Any]) -> None:
    code, printed, said = run("--model", folder, "--scheme", "small")
    assert code == 0
    assert said.index("fp16 cache:") < said.index("small cache:")
    for line in ("bytes per token", "compression", "tokens/s", "peak memory", "perplexity"):
        assert line in printed
    for kernel in ("encode key", "dequantize value", "attend", "combine"):
        assert kernel in printed
    assert {problem.head_dim for problem in tuned if hasattr(problem, "head_dim")} == {32}


@pytest.mark.usefixtures("tuned")
def test_json_alone_on_standard_output(folder: Path) -> None:
    code, printed, _ = run("--model", folder, "--json", "--tokens", "3")
    assert code == 0
    document = json.loads(printed)
    assert [cache["cache"] for cache in document["caches"]] == ["fp16", "balanced"]
    assert document["caches"][1]["answer_tokens"] <= 3
    assert document["caches"][1]["compression"] > 3
    assert all(kernel["why"] for kernel in document["kernels"])


def test_unknown_scheme_and_model(folder: Path) -> None:
    code, _, error = run("--model", folder, "--scheme", "huge")
    assert (code, "balanced" in error) == (2, True)
    code, _, error = run("--model", folder / "nowhere")
    assert (code, "config.json" in error) == (2, True)


def test_without_a_compiler_nothing_is_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    from tqgen_kernels.backends import emulated

    monkeypatch.setenv("TQGEN_BACKEND", "portable")
    monkeypatch.setattr(emulated, "is_available", lambda: False)
    said: list[str] = []
    assert kernels.tune([], said.append, lambda what, done, total: None) == []
    assert "tqgen-kernels[emulator]" in said[0]
