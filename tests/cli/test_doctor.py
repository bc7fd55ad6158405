from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tqgen_kernels.cli import doctor
from tqgen_kernels.cli.doctor import Finding


def test_the_supported_ranges_are_those_of_the_package() -> None:
    assert doctor.supported_range("mlx-lm") == "<0.33,>=0.32.1"
    assert doctor.supported_range("mlx") == "<0.33,>=0.32.2"
    assert doctor.supported_range("nothing") == ""


@pytest.mark.parametrize(
    ("version", "state"),
    [("0.32.1", "ok"), ("0.32.9", "ok"), ("0.31.3", "problem"), ("0.33.0", "warning")],
)
def test_a_version_outside_the_range_says_what_to_install(version: str, state: str) -> None:
    finding = doctor.supported("mlx-lm", version, ">=0.32.1,<0.33")
    assert finding.state == state
    assert version in finding.value
    assert ('pip install "mlx-lm>=0.32.1,<0.33"' in finding.advice) == (state != "ok")


def test_a_missing_package_is_a_problem() -> None:
    finding = doctor.supported("mlx-lm", None, ">=0.32")
    assert finding == Finding("mlx-lm", "not installed", "problem", 'pip install "mlx-lm>=0.32"')


@pytest.mark.parametrize(("system", "advice"), [("Linux", "See the next"), ("Darwin", "pip in")])
def test_on_linux_mlx_comes_by_an_extra(
    system: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert doctor.supported("mlx", None, ">=0.32").advice.startswith(advice)


@pytest.mark.parametrize(
    ("present", "state"),
    [((), "problem"), (("mlx-cpu",), "ok"), (("mlx-cpu", "mlx-cuda-13"), "problem")],
)
def test_exactly_one_mlx_wheel_on_linux(
    monkeypatch: pytest.MonkeyPatch, present: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(doctor, "installed", lambda name: "1" if name in present else None)
    (finding,) = doctor.mlx_wheels()
    assert finding.state == state
    if len(present) > 1:
        assert "pip uninstall -y mlx mlx-cpu mlx-cuda-13" in finding.advice


def test_a_mac_needs_no_extra_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert list(doctor.mlx_wheels()) == []


def test_portable_says_what_that_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQGEN_BACKEND", "portable")
    finding = doctor.kernels()
    assert finding.state == "warning"
    assert "TQGEN_BACKEND=emulated" in finding.advice


def test_a_wrong_backend_is_a_problem_that_lists_the_right_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TQGEN_BACKEND", "vulkan")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.device,))
    found = doctor.diagnose()[-1]
    assert found.state == "problem"
    assert "metal, cuda, emulated, portable" in found.value
    assert "unset it" in found.advice


def test_the_emulators_compiler_is_named() -> None:
    (finding,) = doctor.emulator()
    assert finding.state == "ok"
    assert "/" in finding.value


def test_an_unusable_compiler_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQGEN_EMULATOR_COMPILER", "no-such-compiler")
    (finding,) = doctor.emulator()
    assert finding.state == "warning"
    assert "no-such-compiler" in finding.value


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert doctor.not_writable(tmp_path / "new" / "folder") is None
    assert doctor.not_writable(tmp_path / "file" / "below") is not None


def test_storage_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "file"))
    (finding,) = doctor.storage()
    assert finding.state == "problem"
    assert "TQGEN_CACHE_DIR" in finding.advice
    assert str(tmp_path) in finding.value


def test_a_damaged_record_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "tuned" / "some-device"
    folder.mkdir(parents=True)
    (folder / "encode_x.json").write_text("{not json")
    findings = list(doctor.database())
    assert [f.state for f in findings] == ["ok", "ok", "warning"]
    assert "encode_x.json" in findings[-1].value


def test_a_check_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        raise KeyError("oh")
        yield

    def fine() -> Iterator[Finding]:
        yield Finding("fine", "yes")

    monkeypatch.setattr(doctor, "CHECKS", (broken, fine))
    first, second = doctor.diagnose()
    assert (first.name, first.state) == ("broken", "problem")
    assert second == Finding("fine", "yes")


def test_json_holds_every_finding_and_a_problem_sets_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = Finding("disk", "full", "problem", "make room")
    monkeypatch.setattr(doctor, "diagnose", lambda: [Finding("python", "3"), bad])
    with pytest.raises(typer.Exit) as exit_:
        doctor.doctor(as_json=True)
    assert exit_.value.exit_code == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed[1] == {
        "name": "disk",
        "value": "full",
        "state": "problem",
        "advice": "make room",
    }


def test_the_table_shows_names_values_and_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("python", "3"), Finding("emulator", "[none]", "warning", "pip install x")]
    monkeypatch.setattr(doctor, "diagnose", lambda: findings)
    doctor.doctor(as_json=False)
    printed = capsys.readouterr().out
    for text in ("python", "emulator", "[none]", "pip install x"):
        assert text in printed


def test_this_machine_can_run_the_suite() -> None:
    findings = doctor.diagnose()
    assert {f.name for f in findings} >= {"python", "mlx", "mlx-lm", "device", "emulator"}
    assert [f for f in findings if f.state == "problem"] == []
