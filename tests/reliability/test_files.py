"""Every kind of file: damage is noticed, and a write that fails leaves what was there.

A sample of what `python -m tests.reliability` runs (docs/reliability.md), in processes of their
own: one that crashed would be seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.__main__ import RIGHT

ROOT = Path(__file__).parents[2]
EVERY = 197  # of the bytes and bits of a file


@pytest.fixture(scope="module", params=["--no-mlx", "--mlx"])
def found(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, int]]:
    """Outcomes by kind and fault."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.reliability", "--every", str(EVERY), request.param],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), f"crashed: {ran.returncode}\n{ran.stderr}"
    return {(row["kind"], row["fault"]): row["outcomes"] for row in json.loads(ran.stdout)}


def test_no_fault_goes_unnoticed(found: dict[tuple[str, str], dict[str, int]]) -> None:
    wrong = {case: out for case, out in found.items() if set(out) - RIGHT}
    assert wrong == {}


def test_every_fault_was_tried(found: dict[tuple[str, str], dict[str, int]]) -> None:
    faults = {fault for _, fault in found}
    assert faults == {"damage", "disk full", "read-only", "two writers", "kill -9"}
    for (kind, fault), outcomes in found.items():
        least = {"damage": 20, "disk full": 2, "read-only": 1, "two writers": 11, "kill -9": 8}
        assert sum(outcomes.values()) >= least[fault], (kind, fault)
        if fault in ("disk full", "read-only"):
            assert any(outcome.startswith("refused") for outcome in outcomes), (kind, fault)


def test_a_library_that_was_cut_off_does_not_end_the_process(tmp_path: Path) -> None:
    """The emulator's own cache, all of it: a launch with what is left of it gives the result."""
    environment = {**os.environ, "TQGEN_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    for damaged in (False, True):
        if damaged:
            for path in tmp_path.rglob("*.so"):
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        command = [sys.executable, "-m", "tests.reliability.launch"]
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == "32.0\n"
        assert ("is damaged: kept as" in ran.stderr) == damaged
