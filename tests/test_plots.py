"""The pictures of docs/performance.md can be drawn from what docs/measured/ holds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
MEASURED = ROOT / "docs" / "measured"


@pytest.fixture(scope="module")
def plots() -> ModuleType:
    spec = importlib.util.spec_from_file_location("plots", ROOT / "benchmarks" / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["plots"] = module
    spec.loader.exec_module(module)
    return module


def test_both_pictures_are_drawn(plots: ModuleType, tmp_path: Path) -> None:
    plots.main(measured=MEASURED, out=tmp_path)
    for name in ("decode-ratio.png", "bandwidth.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
        assert (ROOT / "docs" / name).is_file()


def test_the_figures_are_those_of_the_file(plots: ModuleType) -> None:
    document = json.loads((MEASURED / "h100-attend.json").read_text())
    rows = plots.steps(document)
    assert len(rows) == len(document["rows"])
    for row, raw in zip(rows, document["rows"], strict=True):
        assert f"{row.heads} x {row.tokens}, batch {row.batch}, K{row.key_bits}" in raw["problem"]
        assert row.us["fp16"] / row.us["fragment"] == pytest.approx(raw["fragment x"], rel=1e-6)


def test_bytes_are_codes_and_scales(plots: ModuleType) -> None:
    step = plots.Step("32/8", 1024, 2, 3, 3, {})
    assert step.packed_bytes == 2 * 8 * 1024 * (128 * 6 / 8 + 4)
    assert step.fp16_bytes == 2 * 8 * 1024 * 128 * 2 * 2


def test_a_row_of_another_form_is_an_error(plots: ModuleType) -> None:
    with pytest.raises(ValueError, match="no problem of"):
        plots.steps({"rows": [{"problem": "dequantize"}]})
