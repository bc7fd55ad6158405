"""The table of commands: quick help, lazy imports, clear errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from tqgen_kernels.cli import main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from tqgen_kernels.cli.main import app; app(prog_name='tqgen')"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def install(monkeypatch: pytest.MonkeyPatch, name: str, function: object) -> main.Command:
    """A command `name` whose module holds `function`."""
    module = ModuleType(f"tqgen_kernels.cli.{name}")
    setattr(module, name, function)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return main.Command(name, "a test", "Tests")


def test_help_names_every_command_and_imports_none_of_their_libraries() -> None:
    code = (
        "import sys\n"
        "from tqgen_kernels.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'mlx', 'mlx_lm', 'numpy', 'jinja2', 'transformers'}\n"
        "print(heavy & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "set()"
    for command in main.COMMANDS:
        assert f" {command.name} " in result.stdout


@pytest.mark.parametrize("command", main.COMMANDS, ids=lambda command: command.name)
def test_every_command_of_the_table_exists(command: main.Command) -> None:
    assert isinstance(main.load(command), typer.Typer)


@pytest.mark.parametrize("command", main.COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_itself(command: main.Command) -> None:
    result = run(command.name, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage" in result.stdout.lower()
    assert f"tqgen {command.name}" in result.stdout


def test_every_command_that_prints_a_table_prints_it_as_json_too() -> None:
    for command in main.COMMANDS:
        if not command.passes_on:
            click = typer.main.get_command(main.load(command))
            kinds = getattr(click, "commands", {"": click})
            with_table = {"show", "explain", ""} & set(kinds)
            for name in with_table:
                assert "--json" in [o for p in kinds[name].params for o in p.opts], command.name


def test_emit_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tqgen_kernels.codegen.paths.GENERATED", tmp_path)
    monkeypatch.setattr("tqgen_kernels.cli.emit.generated_files", lambda: {"a.metal": "text"})
    emit = next(command for command in main.COMMANDS if command.name == "emit")
    call = CliRunner().invoke
    found = {"folder": str(tmp_path), "files": 1, "changed": ["a.metal"], "stale": []}
    checked = call(main.load(emit), ["--check", "--json"])
    assert checked.exit_code == 1
    assert json.loads(checked.stdout) == {**found, "written": False}
    assert json.loads(call(main.load(emit), ["--json"]).stdout) == {**found, "written": True}
    assert (tmp_path / "a.metal").read_text() == "text"
    assert call(main.load(emit), ["--check"]).exit_code == 0


def test_an_unknown_command_suggests_the_nearest_one() -> None:
    result = run("autotun")
    assert result.returncode == 2
    assert "autotune" in result.stderr


def test_version() -> None:
    assert run("--version").stdout.startswith("tqgen 0.")


@pytest.mark.parametrize(
    "error", [ValueError("bits 9 is not supported"), RuntimeError("bits 9"), OSError(28, "bits 9")]
)
def test_our_errors_are_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    monkeypatch.delenv(main.DEBUG_VARIABLE, raising=False)

    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        main.run(install(monkeypatch, "fails", fail), [])
    assert exit_.value.code == 2
    out = capsys.readouterr()
    assert out.err.startswith("error: ")
    assert "bits 9" in out.err
    assert len(out.err.splitlines()) == 1


def test_our_warnings_are_one_line_and_others_stay_as_they_are() -> None:
    """In a process of its own: pytest itself catches warnings."""
    code = (
        "import sys, types, warnings\n"
        "from tqgen_kernels.cli import main\n"
        "from tqgen_kernels.tuning.database.folder import TuningWarning\n"
        "def warns():\n"
        "    warnings.warn('a record is damaged', TuningWarning, stacklevel=1)\n"
        "    warnings.warn('something else', FutureWarning, stacklevel=1)\n"
        "module = types.ModuleType('tqgen_kernels.cli.warns')\n"
        "module.warns = warns\n"
        "sys.modules[module.__name__] = module\n"
        "main.run(main.Command('warns', '', ''), [])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, *_ = done.stderr.splitlines()  # a newer Python shows the line of code, too
    assert first == "warning: a record is damaged"
    assert second.endswith("FutureWarning: something else")


def test_debug_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(main.DEBUG_VARIABLE, "1")

    def fail() -> None:
        raise ValueError("bits 9")

    with pytest.raises(ValueError, match="bits 9"):
        main.run(install(monkeypatch, "fails", fail), [])


def test_a_mistake_in_our_own_code_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        main.run(install(monkeypatch, "fails", fail), [])


def test_a_missing_mlx_says_what_to_install() -> None:
    text = main.explanation(ImportError("libmlx.so: cannot open", name="mlx.core"))
    assert "tqgen-kernels[cpu]" in text
    assert "tqgen-kernels[cuda]" in text


def test_unknown_flags_and_help_reach_a_command_that_passes_them_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[str]] = []

    def wrap(context: typer.Context, key_bits: int = 4) -> None:
        seen.append([str(key_bits), *context.args])

    monkeypatch.setattr("tqgen_kernels.cli.mlx_command.wrap", wrap, raising=False)
    passing = main.Command("wrap", "a test", "Tests", passes_on=True)
    with pytest.raises(SystemExit) as exit_:
        main.run(passing, ["--model", "m", "--key-bits", "3", "--temp", "0.5", "--help"])
    assert exit_.value.code == 0
    assert seen == [["3", "--model", "m", "--temp", "0.5", "--help"]]
