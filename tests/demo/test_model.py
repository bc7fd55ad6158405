from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import mlx_lm
import pytest

from tqgen_kernels.demo import model as demo
from tqgen_kernels.demo.model import ModelDirectoryError, demo_model, models_dir


def silent(what: str, done: int, total: int) -> None:
    return None


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    @contextmanager
    def tiny(scratch: Path, say: object) -> Iterator[Path]:
        yield tiny_gguf

    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(demo, "demo_gguf", tiny)
    return tmp_path


def build(progress: demo.Progress = silent) -> tuple[Path, str]:
    said: list[str] = []
    path = demo_model("float32", say=said.append, progress=progress)
    return path, "\n".join(said)


def test_built_once_then_reused() -> None:
    path, first = build()
    stamp = (path / "model.safetensors").stat().st_mtime_ns
    again, second = build()
    assert again == path
    assert "written to" in first
    assert "converted before" in second
    assert (path / "model.safetensors").stat().st_mtime_ns == stamp
    mlx_lm.load(str(path))


def flip_a_weight(path: Path) -> None:
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def truncate_the_weights(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def remove_the_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def spoil_the_manifest(path: Path) -> None:
    (path / "manifest.json").write_text('{"layout": 1, "files": [3]}')


def make_it_of_another_layout(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"layout": 0}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flip_a_weight, "model.safetensors has changed"),
        (truncate_the_weights, "bytes, not"),
        (remove_the_tokenizer, "tokenizer.json is missing"),
        (spoil_the_manifest, "no readable manifest.json"),
        (make_it_of_another_layout, "another version of the converter"),
    ],
)
def test_a_damaged_directory_is_kept_aside_and_rebuilt(spoil, reason) -> None:  # type: ignore[no-untyped-def]
    for n, name in enumerate(["", "-2"]):
        path, _ = build()
        spoil(path)
        left = sorted(file.name for file in path.iterdir())
        again, said = build()
        assert reason in said
        aside = path.with_name(f"{path.name}.damaged{name}")
        assert aside.name in said
        assert sorted(file.name for file in aside.iterdir()) == left
        assert again == path
        assert demo.damage(path, silent) is None, n


def test_an_interrupted_build_leaves_nothing_and_the_next_one_works() -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "hashing files" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(interrupt)
    assert not [path for path in models_dir().iterdir() if path.is_dir()]
    path, _ = build()
    assert demo.damage(path, silent) is None


def test_what_a_killed_process_left_is_removed() -> None:
    partial = models_dir() / ".SmolLM2-135M-Instruct-float32.partial"
    partial.mkdir(parents=True)
    (partial / "model.safetensors").write_bytes(b"half")
    path, _ = build()
    assert not partial.exists()
    assert demo.damage(path, silent) is None


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ModelDirectoryError, match="TQGEN_CACHE_DIR"):
        build()


def test_a_full_disk_is_noticed_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000_000))
    with pytest.raises(ModelDirectoryError, match=r"5 MB free.*needs 900 MB"):
        build()
    assert not [path for path in models_dir().iterdir() if path.is_dir()]


def test_dtype_names_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="float32, float16"):
        demo_model("int8", say=print, progress=silent)
