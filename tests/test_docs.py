"""Every Python block and every `tqgen` command line of the README and the docs holds.

A fenced block ```python runs; the blocks of one page share their names, in order. One with more
after the language does not: ```python no-run, or the steps of kernel-family.md, which
test_kernel_family_page.py follows.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tqgen_kernels.cli.main import COMMANDS, app

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<target>[^)#\s]*)(?:#(?P<anchor>[^)\s]*))?\)")
MODEL = re.compile(r"""(?P<quote>["'])mlx-community/[^"']+(?P=quote)""")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    info: tuple[str, ...]
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, m.start()) + 2, tuple(m["info"].split()), m["text"])
        for m in FENCE.finditer(text)
    ]


def python_blocks(page: Path) -> list[Block]:
    return [b for b in blocks(page) if b.info == ("python",)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command_lines(page: Path) -> list[tuple[str, list[str]]]:
    """(command, its --flags) of every `tqgen ...` in code blocks, indented lines and code spans."""
    found = []
    for line in re.findall(r"\btqgen ([a-z-]+)((?:[^\n`#|&;]|\\\n)*)", page.read_text()):
        command, rest = line
        found.append((command, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)))
    return found


PAGES_WITH_PYTHON = [page for page in PAGES if python_blocks(page)]


def test_there_are_pages_and_blocks() -> None:
    assert ROOT / "README.md" in PAGES_WITH_PYTHON
    assert len(PAGES) >= 8


@pytest.mark.parametrize("page", PAGES_WITH_PYTHON, ids=name)
def test_python_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = ""
    for block in python_blocks(page):
        # Blank lines in front, so that a traceback shows the line of the page.
        source += "\n" * max(block.line - 1 - source.count("\n"), 0) + block.text
    if MODEL.search(source):
        path = request.getfixturevalue("demo_model_path")
        source = MODEL.sub(lambda m: repr(str(path)), source)
    script = tmp_path / f"{page.stem}.py"
    script.write_text(source)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{name(page)}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@functools.cache
def help_text(command: str) -> str:
    done = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_command_lines_name_commands_and_flags_that_exist(page: Path) -> None:
    known = {command.name: command for command in COMMANDS}
    for command, flags in command_lines(page):
        assert command in known, f"{name(page)}: tqgen {command}"
        if known[command].attribute == "app":
            continue  # a group: its flags belong to its own commands
        for flag in flags:
            assert flag in help_text(command), f"{name(page)}: tqgen {command} {flag}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(page.read_text()):
        target = page.parent / match["target"] if match["target"] else page
        assert target.exists(), f"{name(page)}: {match['target']}"
        if match["anchor"] and target.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert match["anchor"] in anchors, f"{name(page)}: #{match['anchor']}"
