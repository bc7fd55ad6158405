"""MLX and mlx-lm of other versions: refused with what to do, or one warning."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest

from tqgen_kernels import versions
from tqgen_kernels.versions import UnsupportedVersion, UntestedVersion, check_versions, verdict


def test_the_ranges_are_those_of_the_package() -> None:
    assert versions.supported_range("mlx-lm") == "<0.33,>=0.32.1"
    assert versions.supported_range("mlx") == "<0.33,>=0.32.2"
    assert versions.supported_range("nothing") == ""


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.32.1", "supported"),
        ("0.32.99", "supported"),
        ("0.32.2.dev20261124+abc", "supported"),
        ("0.32.0", "too old"),
        ("0.9", "too old"),
        ("0.33.0", "newer"),
        ("0.33.0.dev1", "newer"),
        ("1.0", "newer"),
        ("main-of-today", "newer"),
    ],
)
def test_where_a_version_stands(version: str, expected: str) -> None:
    assert verdict(version, ">=0.32.1,<0.33") == expected


def pretend(monkeypatch: pytest.MonkeyPatch, **found: str | None) -> None:
    names = {name.replace("_", "-"): version for name, version in found.items()}
    monkeypatch.setattr(versions, "installed", names.get)


def test_an_old_one_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, mlx="0.32.4", mlx_lm="0.31.3")
    expected = r'mlx-lm 0\.31\.3 is too old .* pip install "mlx-lm<0\.33,>=0\.32\.1"'
    with pytest.raises(UnsupportedVersion, match=expected):
        check_versions()


def test_a_newer_one_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, mlx="0.40.1", mlx_lm="0.32.2")
    with pytest.warns(UntestedVersion, match=r'mlx 0\.40\.1 is newer .* pip install "mlx<') as got:
        check_versions()
    assert len(got) == 1


@pytest.mark.parametrize("found", [{}, {"mlx": "0.32.4", "mlx_lm": "0.32.2"}])
def test_nothing_to_say(found: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, **found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_versions()


def test_a_checkout_that_is_not_installed_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    pretend(monkeypatch, mlx="0.1", mlx_lm="0.1")
    check_versions()


def with_mlx_lm(version: str, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A process in which the metadata of mlx-lm say `version`."""
    info = folder / f"mlx_lm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: mlx-lm\nVersion: {version}\n")
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "300"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, env=environment
    )


def test_importing_a_cache_says_so(tmp_path: Path) -> None:
    code = "import tqgen_kernels; print('fine'); tqgen_kernels.make_prompt_cache"
    found = with_mlx_lm("0.31.3", tmp_path, "-c", code)
    assert found.returncode == 1
    assert found.stdout == "fine\n"
    assert "mlx-lm 0.31.3 is too old" in found.stderr.splitlines()[-1]


def test_the_command_line_says_so_in_one_line(tmp_path: Path) -> None:
    run = "from tqgen_kernels.cli.main import app; app(prog_name='tqgen')"
    found = with_mlx_lm("0.31.3", tmp_path, "-c", run, "generate", "--model", "none")
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        "error: mlx-lm 0.31.3 is too old for tqgen-kernels, which needs <0.33,>=0.32.1: "
        'pip install "mlx-lm<0.33,>=0.32.1"'
    ]
