"""Load an mlx-lm model for measuring, and say when the CPU's matrix products are slow."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

SLOW_GFLOPS = 10.0  # MLX's Linux wheel reaches about 2 with its reference BLAS, 50 and more without


class ModelLoadError(RuntimeError):
    """The model could not be loaded or has no key/value cache."""


@dataclass(frozen=True)
class LoadedModel:
    """An mlx-lm model and tokenizer.

    fingerprint: hash of config.json and of the weight files' names and sizes. config:
    config.json. kv_shapes: (kv_heads, key_dim, value_dim) of every attention layer. dtype: of
    the cached keys.
    """

    name: str
    model: Any
    tokenizer: Any
    fingerprint: str
    config: dict[str, Any]
    kv_shapes: list[tuple[int, int, int]]
    dtype: mx.Dtype

    @property
    def weight_bytes(self) -> int:
        from mlx.utils import tree_flatten

        named: Any = tree_flatten(self.model.parameters())
        return sum(int(array.nbytes) for _, array in named)


def load_model(name: str) -> LoadedModel:
    """Load an mlx-lm model from a path or a hub name; on a CPU its weights become float32.

    Raises ModelLoadError with what was given and what is allowed.
    """
    import mlx_lm

    try:
        loaded: Any = mlx_lm.load(name, return_config=True)
        model, tokenizer, config = loaded
    except Exception as error:  # whatever the hub client, the file system or a model file raises
        raise ModelLoadError(
            f"cannot load {name!r}: {type(error).__name__}: {error}. Give the path of a folder "
            "with config.json, tokenizer.json and *.safetensors as mlx-lm writes it, or a hub name."
        ) from error
    if mx.default_device() == mx.cpu:
        model.set_dtype(mx.float32)  # half-precision products are slower there
    mx.eval(model.parameters())
    shapes, dtype = kv_layout(model, name)
    return LoadedModel(name, model, tokenizer, _fingerprint(Path(name)), config, shapes, dtype)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        if path.name == "config.json":
            digest.update(path.read_bytes())
        if path.suffix == ".safetensors":
            digest.update(f"{path.name} {path.stat().st_size}".encode())
    return digest.hexdigest()[:16]


def kv_layout(model: Any, name: str) -> tuple[list[tuple[int, int, int]], mx.Dtype]:
    """(kv_heads, key_dim, value_dim) of each layer that keeps keys and values, and their dtype.

    Found by running one token. Raises ModelLoadError if there is no such layer.
    """
    from mlx_lm.models.cache import KVCache, make_prompt_cache

    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[0]]), cache=cache))
    layers: list[Any] = [layer for layer in cache if isinstance(layer, KVCache)]
    if not layers:
        raise ModelLoadError(f"{name} has no full-attention layer whose cache could be compressed")
    shapes = [(c.keys.shape[1], c.keys.shape[-1], c.values.shape[-1]) for c in layers]
    return shapes, layers[0].keys.dtype


def gemm_gflops(n: int = 512) -> float:
    """Measured float32 matrix-product speed of MLX's default device, GFLOP/s (best of 3)."""
    a = mx.random.normal((n, n))
    mx.eval(a @ a)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        mx.eval(a @ a)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best / 1e9


def blas_advice() -> str | None:
    """How to get a fast BLAS, if this is a Linux CPU with a slow one; else None."""
    if sys.platform != "linux" or mx.default_device() != mx.cpu:
        return None
    gflops = gemm_gflops()
    if gflops > SLOW_GFLOPS:
        return None
    return (
        f"MLX multiplies matrices at {gflops:.1f} GFLOP/s here: its Linux CPU wheel links the "
        "reference BLAS. Many times faster: with a C compiler tqgen lends it NumPy's OpenBLAS "
        "(`tqgen doctor` says what is missing); or, on Debian or Ubuntu,\n"
        "  sudo apt-get install libopenblas0-pthread\n"
        '  LD_PRELOAD="/usr/lib/$(uname -m)-linux-gnu/libopenblas.so.0" tqgen ...'
    )
