"""Which device and software a record was measured on, and what of it must match."""

from __future__ import annotations

import hashlib
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

Text = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class Environment(Struct, frozen=True, forbid_unknown_fields=True):
    """The fingerprint.

    language: the compute capability, where there is one. headers: hash of what the backend puts
    around the Metal text; the text itself is hashed in the record.
    """

    backend: Text
    architecture: Text
    device: Text
    gpu_cores: Count | None = None
    memory_bytes: Count | None = None
    os: Text = ""
    language: Text = ""
    headers: Text = ""
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
    """Hard: backend, architecture. Soft: MLX minor version, OS, language, headers, device, core
    count."""
    found = []
    for name, hard in (
        ("backend", True),
        ("architecture", True),
        ("device", False),
        ("gpu_cores", False),
        ("language", False),
        ("headers", False),
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
def detect(backend: str) -> Environment:
    """The environment of `backend` on this machine, looked up once a process. Imports mlx.core.

    Device fields that MLX does not tell are left out rather than guessed.
    """
    import mlx.core as mx

    on_gpu = backend in ("metal", "cuda") and mx.is_available(mx.gpu)
    info: dict[str, Any] = mx.device_info(mx.gpu if on_gpu else mx.cpu)
    memory = info.get("memory_size", info.get("total_memory"))
    return Environment(
        backend=backend,
        architecture=str(info.get("architecture", platform.machine()))[:256],
        device=str(info.get("device_name", "unknown"))[:256],
        gpu_cores=_apple_gpu_cores() if backend == "metal" else None,
        memory_bytes=memory if isinstance(memory, int) and memory >= 0 else None,
        os=_os_name(),
        language=_compute_capability(info),
        headers=_headers_hash(backend),
        mlx=version("mlx"),
        python=platform.python_version(),
        tqgen=version("tqgen-kernels"),
    )


def _compute_capability(info: dict[str, Any]) -> str:
    parts = [info.get(f"compute_capability_{part}") for part in ("major", "minor")]
    return ".".join(str(part) for part in parts if part is not None)


def _headers_hash(backend: str) -> str:
    """Of the texts that give the Metal text its CUDA meaning; no other backend has such."""
    if backend != "cuda":
        return ""
    folder = Path(__file__).parents[2] / "backends" / "include"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.h")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _os_name() -> str:
    """macOS in full: its updates bring a Metal compiler. Elsewhere major and minor."""
    mac = platform.mac_ver()[0]
    if mac:
        return f"macOS {mac}"
    return f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"


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
