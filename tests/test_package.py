"""The package as others get it: built by way of the source distribution, used elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository with nothing but the wheel installed in it."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    return target


def run_outside(installed: Path, code: str) -> str:
    """What `code` prints with the installed package first on the path."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=installed,
        env=environment,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def tracked(folder: str) -> set[str]:
    """Files that git knows, or that lie there where there is no git (a source distribution)."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_the_wheel_holds_every_file_of_package_templates_and_generated(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = tracked("tqgen_kernels")
    expected |= {f"tqgen_kernels/{name}" for name in tracked("templates") | tracked("generated")}
    assert any(name.endswith(".jinja") for name in expected)
    assert any(name.endswith(".metal") for name in expected)
    assert any(name.startswith("tqgen_kernels/emulator/") for name in expected)
    assert expected <= names
    extra = {name for name in names - expected if ".dist-info/" not in name}
    assert not extra


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    assert wheel.name == "tqgen_kernels-0.1.0-py3-none-any.whl"
    archive = zipfile.ZipFile(wheel)
    info = "tqgen_kernels-0.1.0.dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()
    assert "License-Expression: Apache-2.0" in metadata
    for extra in ("cpu", "cuda", "emulator", "plot", "dev"):
        assert f"Provides-Extra: {extra}\n" in metadata
    assert "tqgen = tqgen_kernels.cli.main:app" in archive.read(f"{info}/entry_points.txt").decode()
    assert "tqgen_kernels/py.typed" in archive.namelist()
    assert f"{info}/licenses/LICENSE" in archive.namelist()


def test_the_source_distribution_holds_what_git_knows_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    assert {"tests/test_package.py", "Makefile", "LICENSE", "README.md"} <= names
    folders = ("benchmarks", "docs", "examples", "generated", "templates", "tests", "tqgen_kernels")
    expected = set().union(*(tracked(folder) for folder in folders))
    assert {name for name in names if "/" in name} == expected


def test_public_names_import_outside_the_repository(installed: Path) -> None:
    printed = run_outside(
        installed,
        "import tqgen_kernels\n"
        "from tqgen_kernels import TurboQuantKVCache, apply_patch, make_adaptive_cache\n"
        "from tqgen_kernels import emulator\n"
        "print(tqgen_kernels.__file__)",
    )
    assert Path(printed).is_relative_to(installed)


def test_kernels_render_outside_the_repository(installed: Path) -> None:
    printed = run_outside(
        installed,
        "from tqgen_kernels.codegen.paths import GENERATED, TEMPLATES\n"
        "from tqgen_kernels.codegen.families import FAMILIES\n"
        "from tqgen_kernels.codegen.problem import EncodeProblem\n"
        "from tqgen_kernels.codegen.render import render\n"
        "problem = EncodeProblem(head_dim=128, bits=3)\n"
        "variant = render(problem, FAMILIES['encode'].default(problem))\n"
        "print(TEMPLATES, GENERATED, len(variant.source))",
    )
    templates, generated, length = printed.split()
    assert Path(templates).is_relative_to(installed)
    assert Path(generated).is_relative_to(installed)
    assert int(length) > 100


def test_the_command_runs_outside_the_repository(installed: Path) -> None:
    code = "import sys; sys.argv[1:] = ['emit', '--check']\n"
    code += "from tqgen_kernels.cli.main import app; app(prog_name='tqgen')"
    run_outside(installed, code)


def test_import_is_quick_beyond_mlx(installed: Path) -> None:
    """No clock: what must not be imported by `import tqgen_kernels` is what takes the time."""
    printed = run_outside(
        installed,
        "import sys, mlx.core\n"
        "import tqgen_kernels\n"
        "heavy = {'transformers', 'mlx_lm', 'typer', 'rich', 'matplotlib', 'scipy', 'jinja2'}\n"
        "print(sorted(heavy & set(sys.modules)))",
    )
    assert printed == "[]"
