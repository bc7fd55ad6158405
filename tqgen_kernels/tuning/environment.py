"""Which device and software a record was measured on, and what of it must match."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class Environment(Struct, frozen=True, forbid_unknown_fields=True):
    """The fingerprint. `language` is the MSL version or the compute capability."""

    backend: Text
    architecture: Text
    device: Text
    gpu_cores: Count | None = None
    memory_bytes: Count | None = None
    os: Text = ""
    language: Text = ""
    mlx: Text = ""
    python: Text = ""
    tqgen: Text = ""

    @property
    def device_key(self) -> str:
        """A folder name: lower case letters, digits, '_' and '-' only."""
        cores = f"{self.gpu_cores}cores" if self.gpu_cores else ""
        parts = (_slug(p) for p in (self.backend, self.architecture, self.device, cores))
        return "-".join(p for p in parts if p) or "unknown"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:48]


@dataclass(frozen=True)
class Mismatch:
    """A difference between a record's environment and this one; a hard one bars the record."""

    hard: bool
    text: str


def mismatches(recorded: Environment, here: Environment) -> tuple[Mismatch, ...]:
    """Hard: backend, architecture. Soft: MLX minor version, OS, language, device, core count."""
    found = []
    for name, hard in (
        ("backend", True),
        ("architecture", True),
        ("device", False),
        ("gpu_cores", False),
        ("language", False),
        ("os", False),
    ):
        theirs, ours = getattr(recorded, name), getattr(here, name)
        if theirs != ours:
            found.append(Mismatch(hard, f"{name} {theirs!r}, here {ours!r}"))
    if _minor(recorded.mlx) != _minor(here.mlx):
        found.append(Mismatch(False, f"mlx {recorded.mlx}, here {here.mlx}"))
    return tuple(found)


def _minor(release: str) -> tuple[str, ...]:
    return tuple(release.split(".")[:2])


@cache
def detect(backend: str, *, language: str = "") -> Environment:
    """The environment of `backend` on this machine, looked up once a process. Imports mlx.core.

    Device fields that MLX does not tell are left out rather than guessed.
    """
    import mlx.core as mx

    info: dict[str, Any] = mx.device_info()
    memory = info.get("memory_size", info.get("total_memory"))
    return Environment(
        backend=backend,
        architecture=str(info.get("architecture", platform.machine()))[:256],
        device=str(info.get("device_name", "unknown"))[:256],
        gpu_cores=_apple_gpu_cores() if backend == "metal" else None,
        memory_bytes=memory if isinstance(memory, int) and memory >= 0 else None,
        os=_os_name(),
        language=language,
        mlx=version("mlx"),
        python=platform.python_version(),
        tqgen=version("tqgen-kernels"),
    )


def _os_name() -> str:
    mac = platform.mac_ver()[0]
    return f"macOS {mac}" if mac else f"{platform.system()} {platform.release()}"


def _apple_gpu_cores() -> int | None:
    """From the I/O registry. None where it cannot be asked."""
    try:
        text = subprocess.run(
            ["/usr/sbin/ioreg", "-rc", "AGXAccelerator", "-d", "1"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_gpu_cores(text)


def parse_gpu_cores(text: str) -> int | None:
    """The number after "gpu-core-count" in what `ioreg` prints."""
    found = re.search(r'"gpu-core-count"\s*=\s*(\d{1,4})\b', text)
    return int(found.group(1)) if found else None
