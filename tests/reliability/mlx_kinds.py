"""The kinds of files that MLX writes or reads, or whose code imports it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx

from tests.reliability.kinds import Kind, Say
from tqgen_kernels.backends.cuda import CudaText, by_reference
from tqgen_kernels.cache import prompt_file
from tqgen_kernels.cache.prompt_file import PromptFileError, load_prompt_cache, save_prompt_cache
from tqgen_kernels.cache.turboquant import TurboQuantKVCache
from tqgen_kernels.demo import model as demo
from tqgen_kernels.quality.agreement import Agreement
from tqgen_kernels.quality.units import read_unit, write_unit

_UNITS = tuple(
    Agreement([1.5 + i, 2.25], [1.5, 2.0], [0.0, 0.125], [True, False], 4096) for i in (0, 1)
)


def _write_unit(folder: Path, content: int, say: Say) -> None:
    write_unit(folder / "unit.json", _UNITS[content])


def _read_unit(folder: Path, say: Say) -> int | None:
    unit = read_unit(folder / "unit.json", Agreement, say)
    return None if unit is None else _UNITS.index(unit) if unit in _UNITS else -1


@cache
def _filled(content: int) -> TurboQuantKVCache:
    cache = TurboQuantKVCache(scheme="tiny")
    keys, values = mx.random.normal((2, 1, 1, 110, 32), key=mx.random.key(content))
    cache.update_and_fetch(keys.astype(mx.float16), values.astype(mx.float16))
    cache.store.settle()
    return cache


@cache
def _arrays(content: int) -> list[bytes]:
    return [bytes(memoryview(a)) for a in map(mx.contiguous, _filled(content).contents())]


@cache
def _file(content: int) -> bytes:
    """What MLX writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.safetensors"
        save_prompt_cache(str(path), [_filled(content)], {"model": "tiny"})
        return path.read_bytes()


def _write_prompt(folder: Path, content: int, say: Say) -> None:
    """Our part of it: MLX cannot be called in a forked process."""
    files = [_file(0), _file(1)]

    def save(name: str, *ignored: object) -> None:
        Path(name).write_bytes(files[content])

    with patch.object(prompt_file.mlx_caches, "save_prompt_cache", save):
        save_prompt_cache(str(folder / "p.safetensors"), [])


def _read_prompt(folder: Path, say: Say) -> int | None:
    (found,) = load_prompt_cache(str(folder / "p.safetensors"))
    arrays = [bytes(memoryview(mx.contiguous(a))) for a in found.contents()]
    same = [arrays == _arrays(content) and _same_scheme(found, content) for content in (0, 1)]
    return same.index(True) if any(same) else -1


def _same_scheme(found: Any, content: int) -> bool:
    like = _filled(content)
    return bool(found.scheme == like.scheme and found.offset == like.offset)


_WEIGHTS = bytes(range(200))
_TEXTS = [CudaText("tqgen_k", f"header {i}\n" * 9, f"body {i} ×\n" * 9) for i in (0, 1)]


def _write_cuda(folder: Path, content: int, say: Say) -> None:
    os.environ["TQGEN_CACHE_DIR"] = str(folder)
    if by_reference(_TEXTS[content]) is _TEXTS[content]:
        say("not written: the text itself is used")


def _read_cuda(folder: Path, say: Say) -> int | None:
    """What MLX would include for content 0."""
    os.environ["TQGEN_CACHE_DIR"] = str(folder)
    by_reference(_TEXTS[0])
    found = (folder / "cuda" / "tqgen_k.header.h").read_text(encoding="utf-8")
    return [text.header for text in _TEXTS].index(found)


def _write_model(folder: Path, content: int, say: Say) -> None:
    """The real road to a model folder, with little in it; 1 makes it anew."""

    @contextmanager
    def no_weights(scratch: Path, say: Say) -> Iterator[Path]:
        yield scratch

    def convert(gguf: Path, made: Path, dtype: str, progress: object) -> None:
        (made / "config.json").write_text('{"model_type": "llama"}')
        (made / "model.safetensors").write_bytes(_WEIGHTS)

    os.environ["TQGEN_CACHE_DIR"] = str(folder)
    if content:
        _model(folder, demo.MANIFEST).unlink(missing_ok=True)
    with (
        patch.object(demo, "demo_gguf", no_weights),
        patch.object(demo, "write_model", convert),
        patch.dict(demo.BYTES_NEEDED, float32=0),
    ):
        demo.demo_model("float32", say=lambda line: None, progress=lambda *a: None)


def _read_model(folder: Path, say: Say) -> int | None:
    reason = demo.damage(_model(folder, ""), lambda *a: None)
    if reason is not None:
        say(reason)
        return None
    return 0 if _model(folder, "model.safetensors").read_bytes() == _WEIGHTS else -1


def _model(folder: Path, name: str) -> Path:
    return folder / "models" / f"{demo.MODEL_NAME}-float32" / name


def mlx_kinds() -> list[Kind]:
    """Those whose code imports MLX."""
    return [
        Kind(
            "prompt cache",
            lambda f: f / "p.safetensors",
            _write_prompt,
            _read_prompt,
            (PromptFileError,),
        ),
        Kind(
            "unit of an evaluation", lambda f: f / "unit.json", _write_unit, _read_unit, aside=True
        ),
        Kind(
            "CUDA text",
            lambda f: f / "cuda" / "tqgen_k.header.h",
            _write_cuda,
            _read_cuda,
            derived=True,
            second=0,
        ),
        *(_model_kind(name) for name in ("config.json", "model.safetensors", demo.MANIFEST)),
    ]


def _model_kind(name: str) -> Kind:
    return Kind(
        f"model folder: {name}",
        lambda folder: _model(folder, name),
        _write_model,
        _read_model,
        (demo.ModelDirectoryError,),
        derived=True,
        second=0,
        written=name == demo.MANIFEST,
    )
