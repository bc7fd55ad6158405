"""`tqgen check` as it is typed: what it prints and how it exits."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.emulator.checker.test_check import PROGRAM, TWO_KERNELS
from tqgen_kernels.cli.emit import metal_text
from tqgen_kernels.cli.main import app
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import CombineProblem
from tqgen_kernels.codegen.render import render


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "300"})


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_correct_file(tmp_path: Path) -> None:
    result = check(write(tmp_path, "good.metal", TWO_KERNELS))
    assert result.exit_code == 0, result.output
    assert "ran saxpy: T=half, N=3, x[1024], y[1024], grid 1027x1x1" in result.output
    assert result.output.endswith("0 errors, 0 warnings\n")


def test_static_errors_stop_before_the_run(tmp_path: Path) -> None:
    bad = TWO_KERNELS.replace("constant float HALF", "const float HALF")
    file = write(tmp_path, "bad.metal", bad)
    result = check(file)
    assert result.exit_code == 1
    assert f"{file}:4:13: error: 'HALF': a program-scope variable must be" in result.output
    assert "ran" not in result.output
    assert check("--static", file).output == result.output


def test_faults_of_a_run(tmp_path: Path) -> None:
    bad = TWO_KERNELS.replace("i < n", "i <= n")
    file = write(tmp_path, "bad.metal", bad)
    assert check("--static", file).exit_code == 0
    result = check(file)
    assert result.exit_code == 1
    assert f"{file}:17:1: error: read of x[1024]" in result.output
    assert "[out-of-bounds]" in result.output


def test_a_program(tmp_path: Path) -> None:
    file = write(tmp_path, "program.py", PROGRAM)
    result = check(file)
    assert result.exit_code == 1
    assert f"{file}:5:1: error: read of x[16]" in result.output
    assert "ran shifted: 2 launches" in result.output
    assert "unused: 0 launches: the program never calls it" in result.output
    assert check(file, "--shape", "x=4").exit_code == 2
    file.write_text(PROGRAM + "raise KeyError('gone')\n")
    result = check(file)
    assert "read of x[16]" in result.output
    assert "error: the program ended with KeyError: 'gone'" in result.output


def test_json_is_all_that_is_printed(tmp_path: Path) -> None:
    bad = write(tmp_path, "bad.metal", TWO_KERNELS.replace("i < n", "i <= n"))
    loud = write(tmp_path, "loud.py", "print('hello')\n" + PROGRAM)
    for file, line in ((bad, 17), (loud, 6)):
        result = CliRunner().invoke(app, ["check", "--json", str(file)])
        found = json.loads(result.stdout)
        assert result.exit_code == 1
        assert found["errors"] == len(found["diagnostics"]) > 0
        assert found["diagnostics"][0]["line"] == line
        assert found["diagnostics"][0]["rule"] == "out-of-bounds"
        assert found["diagnostics"][0]["file"] == str(file)
        assert found["ran"]


def test_our_own_files_are_compared_with_the_reference(tmp_path: Path) -> None:
    problem = CombineProblem(80)
    text, _ = metal_text(render(problem, FAMILIES["combine"].default(problem)))
    result = check(write(tmp_path, "own.metal", text))
    assert result.exit_code == 0, result.output
    assert "against the reference" in result.output
    wrong = text.replace("exp2(", "exp(", 1)
    assert wrong != text
    result = check(write(tmp_path, "wrong.metal", wrong))
    assert result.exit_code == 1
    assert "[wrong-result]" in result.output


BODY = """uint i = thread_position_in_grid.x;
if (i < n) {
  out[i] = T(x[i]) * 2;
}
"""


def test_a_body_whose_buffers_are_named(tmp_path: Path) -> None:
    named = ["--input", "x=float16", "--scalar", "n=uint32", "--output", "out=T"]
    named += ["--template", "T=bfloat16"]
    result = check(write(tmp_path, "body.metal", BODY), *named)
    assert result.exit_code == 0, result.output
    assert "ran body: T=bfloat16, x[1024], out[1024], grid 1027x1x1" in result.output
    result = check(write(tmp_path, "bad.metal", BODY.replace("2;", "y;")), *named, "--static")
    assert "bad.metal:3:22: error: use of undeclared identifier 'y'" in result.output
    result = check(write(tmp_path, "racing.metal", BODY.replace("out[i]", "out[i / 2]")), *named)
    assert "racing.metal:3:1: error: " in result.output
    assert check(tmp_path / "body.metal", "--input", "x=float32").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--msl", "5"], "give 3.1, 3.2 or 4.0"),
        (["--msl", "9.9"], "known are 3.1, 3.2, 4.0"),
        (["--shape", "x"], "give NAME=..."),
        (["--shape", "x=axb"], "give sizes as in 8x128"),
        (["--value", "n=many"], "is no number"),
        (["--shape", "nosuch=3"], "no kernel here has a parameter 'nosuch'"),
        (["--template", "T=float99"], "MLX has no arrays of float99"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = check(write(tmp_path, "good.metal", TWO_KERNELS), *arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert check(tmp_path / "none.metal").exit_code == 2
    binary = tmp_path / "binary.metal"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    result = check(binary)
    assert result.exit_code == 2
    assert "is not text" in result.output
    result = check(write(tmp_path, "body.metal", "out[0] = 1;"), "--static")
    assert result.exit_code == 1
    assert "body.metal:1:1: error: no kernel: " in result.output
