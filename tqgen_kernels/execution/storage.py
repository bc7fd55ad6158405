"""How a new cache lays out its tiles."""

from __future__ import annotations

import os

from tqgen_kernels import backends
from tqgen_kernels.codegen.problem import STORAGES, AttendProblem, Storage
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.scheme import Scheme

_STORAGE: dict[str, Storage] = {"cuda": "fragment"}


def storage_for(scheme: Scheme, key_dim: int, value_dim: int) -> Storage:
    """How a new cache lays out its tiles: "fragment" where that was measured to be faster.

    Measured so far: NVIDIA (docs/performance.md). TQGEN_STORAGE=tiles|fragment sets it. The matrix
    unit takes head_dims that are multiples of 32 and codebooks that decode by arithmetic.
    """
    leader = registry.leader()
    wanted = wanted_storage() if leader is None else leader.storage
    if wanted == "tiles" or scheme.key_bits is None or scheme.value_bits is None:
        return "tiles"
    try:
        AttendProblem(
            key_dim,
            value_dim,
            scheme.key_bits,
            scheme.value_bits,
            codebook=scheme.codebook,
            storage="fragment",
        )
    except ValueError:
        return "tiles"
    return "fragment"


def wanted_storage() -> str:
    """What this process would store by, whatever the scheme. Raises ValueError for a bad
    TQGEN_STORAGE."""
    wanted = os.environ.get("TQGEN_STORAGE") or _STORAGE.get(backends.default_name(), "tiles")
    if wanted not in STORAGES:
        raise ValueError(f"TQGEN_STORAGE={wanted!r} is unknown: use one of {', '.join(STORAGES)}.")
    return wanted
