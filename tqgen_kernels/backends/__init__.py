"""From a Variant to something that launches: Metal, CUDA, or the emulator on a CPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import mlx.core as mx

    from tqgen_kernels.codegen.variant import Launch

    # Inputs in the variant's order to outputs.
    Bound: TypeAlias = Callable[[Sequence[mx.array]], list[mx.array]]
    Launcher: TypeAlias = Callable[[Launch], Bound]

NAMES = ("metal", "cuda", "emulated")
PORTABLE = "portable"


def load(name: str) -> ModuleType:
    """The backend's module: NAME, LAZY, is_available(), build(variant). Raises ValueError.

    LAZY: whether a launch is an operation like MLX's own, which computes when it is evaluated.
    """
    if name not in NAMES:
        raise ValueError(f"backend {name!r} is unknown: use one of {', '.join(NAMES)}.")
    from importlib import import_module

    return import_module(f"tqgen_kernels.backends.{name}")


def default_name() -> str:
    """The backend of this machine's device: metal, cuda, or `portable` where there is neither.

    TQGEN_BACKEND sets it: `emulated` runs every kernel on the CPU (slow, for tests), `portable`
    uses MLX's own operations only. Raises ValueError for another value.
    """
    return _named(os.environ.get("TQGEN_BACKEND", ""))


@lru_cache(maxsize=8)
def _named(wanted: str) -> str:
    if not wanted:
        return next((n for n in ("metal", "cuda") if load(n).is_available()), PORTABLE)
    if wanted not in (*NAMES, PORTABLE):
        allowed = ", ".join((*NAMES, PORTABLE))
        raise ValueError(f"TQGEN_BACKEND={wanted!r} is unknown: use one of {allowed}.")
    return wanted
