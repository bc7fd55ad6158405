"""A TurboQuant KV cache for MLX whose GPU kernels are generated, verified and autotuned."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqgen_kernels.cache.adaptive import make_adaptive_cache
    from tqgen_kernels.cache.attention import apply_patch, remove_patch
    from tqgen_kernels.cache.prompt import make_prompt_cache
    from tqgen_kernels.cache.turboquant import TurboQuantKVCache
    from tqgen_kernels.quant.scheme import Scheme

    __version__: str

__all__ = [
    "Scheme",
    "TurboQuantKVCache",
    "__version__",
    "apply_patch",
    "make_adaptive_cache",
    "make_prompt_cache",
    "remove_patch",
]

# Imported when first asked for: `import tqgen_kernels` alone costs nothing. `prompt` comes before
# a cache class is used, so that mlx-lm knows the classes by name.
_HOMES = {
    "Scheme": "quant.scheme",
    "TurboQuantKVCache": "cache.prompt",
    "apply_patch": "cache.attention",
    "remove_patch": "cache.attention",
    "make_adaptive_cache": "cache.adaptive",
    "make_prompt_cache": "cache.prompt",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("tqgen-kernels")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
