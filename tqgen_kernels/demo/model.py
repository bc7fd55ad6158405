"""The demo model as an mlx-lm model directory in the user's cache: built once, checked, reused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
from filelock import FileLock

from tqgen_kernels.files import cache_dir, keep_aside

from .gguf import Progress, llama_config, llama_weights, read_gguf
from .tokenizer import build_tokenizer, tokenizer_config
from .weights import GGUF_SHA256, Say, demo_gguf, file_sha256

MODEL_NAME = "SmolLM2-135M-Instruct"
MANIFEST = "manifest.json"
LAYOUT = 1  # raise when the converter writes something else: old directories are then rebuilt
BYTES_NEEDED = {"float32": 900_000_000, "float16": 620_000_000}


class ModelDirectoryError(RuntimeError):
    """The model directory could not be written."""


def models_dir() -> Path:
    """Where converted models live: $TQGEN_CACHE_DIR/models or the user's cache directory."""
    return cache_dir() / "models"


def demo_dtype() -> str:
    """float16 on a GPU; float32 on a CPU, where MLX's half-precision products are slow."""
    return "float32" if mx.default_device() == mx.cpu else "float16"


def demo_model(dtype: str | None = None, *, say: Say, progress: Progress) -> Path:
    """Path of the demo model, for `mlx_lm.load`; converts it if that has not been done.

    dtype: 'float32' or 'float16' (None: demo_dtype()). `say` gets one line per step, `progress`
    (what, done, total). An interrupted build leaves nothing behind; a directory whose files
    differ from its manifest is renamed `*.damaged*` and built again.
    Raises WeightsError, GgufError, ModelDirectoryError.
    """
    dtype = dtype or demo_dtype()
    if dtype not in BYTES_NEEDED:
        raise ValueError(f"dtype {dtype!r}; allowed: {', '.join(BYTES_NEEDED)}")
    target = models_dir() / f"{MODEL_NAME}-{dtype}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):
            if target.exists():
                problem = damage(target, progress)
                if problem is None:
                    say(f"model: {target} (converted before)")
                    return target
                aside = keep_aside(target, "damaged")
                say(f"model: {target} is damaged ({problem}); kept as {aside.name}")
            _build(target, dtype, say, progress)
    except OSError as error:
        raise ModelDirectoryError(
            f"cannot write the demo model below {target.parent}: {error}. "
            "Free some space, or point TQGEN_CACHE_DIR to a writable folder."
        ) from error
    say(f"model: written to {target}")
    return target


def damage(folder: Path, progress: Progress) -> str | None:
    """What is wrong with a model directory by its manifest (sizes, SHA-256), or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        files = {
            str(name): (int(size), str(sha)) for name, (size, sha) in manifest["files"].items()
        }
        layout, source = manifest["layout"], manifest["source_sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"no readable {MANIFEST}: {error}"
    if layout != LAYOUT or source != GGUF_SHA256:
        return "made by another version of the converter"
    for done, (name, (size, sha)) in enumerate(files.items()):
        progress("checking the model", done, len(files))
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        if file_sha256(path) != sha:
            return f"{name} has changed"
    progress("checking the model", len(files), len(files))
    return None


def _build(target: Path, dtype: str, say: Say, progress: Progress) -> None:
    """Write the directory under a temporary name, then rename it: it is there whole or not."""
    free = shutil.disk_usage(target.parent).free
    if free < BYTES_NEEDED[dtype]:
        raise ModelDirectoryError(
            f"{target.parent} has {free / 1e6:.0f} MB free; the demo model needs "
            f"{BYTES_NEEDED[dtype] / 1e6:.0f} MB. Free some, or set TQGEN_CACHE_DIR."
        )
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process; the lock is ours
    try:
        partial.mkdir()
        with demo_gguf(partial, say) as gguf_path:
            write_model(gguf_path, partial, dtype, progress)
        _write_manifest(partial, progress)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_model(gguf_path: Path, folder: Path, dtype: str, progress: Progress) -> None:
    """Convert a Llama GGUF file into mlx-lm's files in an existing folder."""
    gguf = read_gguf(gguf_path)
    config = llama_config(gguf, dtype)
    build_tokenizer(gguf).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(gguf), indent=1))
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    weights = llama_weights(gguf, config, progress)
    progress("writing weights", 0, 1)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    progress("writing weights", 1, 1)


def _write_manifest(folder: Path, progress: Progress) -> None:
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    files = {}
    for done, path in enumerate(paths):
        progress("hashing files", done, len(paths))
        files[path.name] = (path.stat().st_size, file_sha256(path))
    progress("hashing files", len(paths), len(paths))
    manifest = {"layout": LAYOUT, "source_sha256": GGUF_SHA256, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
