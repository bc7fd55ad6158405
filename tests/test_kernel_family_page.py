"""docs/kernel-family.md, followed to the letter in a copy of the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "kernel-family.md"
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r'into=(?P<file>\S+) (?P<where>before|after)="(?P<anchor>[^"]*)"')


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("tqgen_kernels", "templates", "generated"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    return tmp_path


def insert(path: Path, where: str, anchor: str, text: str) -> None:
    """Puts `text` before or after the one place where `anchor` is in the file."""
    old = path.read_text()
    assert old.count(anchor) == 1, f"{anchor!r} is {old.count(anchor)} times in {path.name}"
    path.write_text(old.replace(anchor, text + anchor if where == "before" else anchor + text))


def follow(copy: Path) -> str:
    """Does what the page says; returns the script at its end."""
    script = ""
    for block in FENCE.finditer(PAGE.read_text()):
        language, _, rest = block["info"].partition(" ")
        place = PLACE.fullmatch(rest)
        if place:
            anchor = place["anchor"].replace("\\n", "\n")
            insert(copy / place["file"], place["where"], anchor, block["text"])
        elif rest.startswith("file="):
            path = copy / rest.removeprefix("file=")
            path.parent.mkdir(exist_ok=True)
            path.write_text(block["text"])
        elif (language, rest) == ("python", "try"):
            script += block["text"]
    return script


def run(copy: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_adds_a_family_that_works(copy: Path) -> None:
    done = run(copy, follow(copy))
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("right in 4 variants") == 3


def test_the_mistake_that_the_page_names_is_found(copy: Path) -> None:
    script = follow(copy)
    template = copy / "templates" / "norms" / "norms.metal.jinja"
    text = template.read_text()
    guard = "if (row < uint(params[0])) {"
    assert guard in text
    template.write_text(text.replace(guard, "{"))
    done = run(copy, script)
    assert done.returncode != 0
    assert "MetalFault" in done.stderr or "out of bounds" in done.stderr


def test_it_is_under_100_lines() -> None:
    blocks = FENCE.finditer(PAGE.read_text())
    written = "".join(b["text"] for b in blocks if "=" in b["info"])
    assert len([line for line in written.splitlines() if line.strip()]) < 100
