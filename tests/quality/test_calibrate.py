"""`tqgen calibrate` on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from typer.testing import CliRunner

from tqgen_kernels import make_prompt_cache
from tqgen_kernels.cli.main import app
from tqgen_kernels.quality.contenders import contender
from tqgen_kernels.quality.load import load_model
from tqgen_kernels.quality.sensitivity import Calibration, sensitivities
from tqgen_kernels.quality.teacher import Steps
from tqgen_kernels.quant.layered import read_scheme
from tqgen_kernels.quant.scheme import Scheme

SMALL = ["--windows", "1", "--prompt", "200", "--scored", "16"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("It was the best of times, it was the worst of times. " * 20)
    return path


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


def test_it_writes_a_scheme_that_everything_takes(
    folder: Path, text: Path, tmp_path: Path, own_cache: Path
) -> None:
    out = tmp_path / "mine.json"
    common = ["--model", folder, "--text", text, "--out", out, *SMALL]
    code, printed, _ = run(*common, "--bits-per-value", "3.5")
    assert code == 0
    assert "3.50 bits a value" in printed
    first = read_scheme(out)
    assert len(first.layers) == 2
    spent = sum(s.key_bits + s.value_bits for s in first.layers) / 4 + 0.25  # type: ignore[operator]
    assert spent == 3.5
    model = load_model(str(folder))
    assert [x.scheme for x in make_prompt_cache(model.model, scheme=out)] == list(first.layers)
    tested = contender(str(out), model.kv_shapes)
    assert (tested.name, tested.bits) == ("mine", 3.5)
    # Another budget asks nothing of the model again.
    known = {path: path.stat().st_mtime_ns for path in (own_cache / "calibration").iterdir()}
    assert len(known) == 2 * 2 * 2
    code, printed, _ = run(*common, "--bits-per-value", "2.25", "--json")
    assert code == 0
    assert json.loads(printed)["bits_per_value"] == 2.25
    assert read_scheme(out) != first
    again = {path: path.stat().st_mtime_ns for path in (own_cache / "calibration").iterdir()}
    assert again == known
    assert run(*common, "--fresh")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in (own_cache / "calibration").iterdir()}
    assert after.keys() == known.keys()
    assert all(after[path] > known[path] for path in known)


def test_the_layer_that_matters_costs_more(model: Any, folder: Path, tmp_path: Path) -> None:
    loaded = load_model(str(folder))
    attention = loaded.model.layers[1].self_attn
    attention.q_proj.weight = attention.q_proj.weight * 0  # attends to all alike: keys are moot
    tokens: Any = mx.random.randint(0, 256, (400,), key=mx.random.key(1)).tolist()
    quiet: Any = lambda *_: None  # noqa: E731
    costs = sensitivities(
        Calibration(loaded, tokens, Steps(232, 200), 1, Scheme(), tmp_path, False, quiet, quiet)
    )
    assert [(cost.layer, cost.side) for cost in costs] == [
        (0, "key"), (0, "value"), (1, "key"), (1, "value"),
    ]  # fmt: skip
    assert all(cost.values == 64 and cost.vectors == 1 for cost in costs)
    assert costs[0].kl[2] > 2 * costs[0].kl[4] > 0
    assert costs[1].kl[2] > 2 * costs[1].kl[4] > 0
    assert costs[2].kl[2] < 1e-6 < costs[3].kl[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "scheme.txt"], "must end in .json"),
        (["--bits-per-value", "1"], "give 1.75 to 8.25"),
        (["--windows", "99"], "Take at least 1"),
        (["--text", "no/such/file"], "no/such/file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, folder: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.json"
    code, _, error = run("--model", folder, "--text", text, "--out", out, *SMALL, *arguments)
    assert code == 2
    assert message in " ".join(error.split())
    assert not out.exists()
