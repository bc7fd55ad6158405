"""Measured units on disk, one small JSON file each, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tqgen_kernels.files import keep_aside, write_atomically

T = TypeVar("T")
Say = Callable[[str], None]


class _Sealed(msgspec.Struct, forbid_unknown_fields=True):
    """A unit as its JSON text, with the SHA-256 of that: a digit that changed must not count."""

    sha256: str
    unit: msgspec.Raw


def unit_path(folder: Path, description: dict[str, Any]) -> Path:
    """File of the unit that `description` (JSON values) names; equal descriptions, equal files."""
    text = json.dumps(description, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def write_unit(path: Path, unit: Any) -> None:
    """A dataclass as JSON. Write atomically: the file is there whole or not at all."""
    data = msgspec.json.encode(unit)
    sealed = _Sealed(hashlib.sha256(data).hexdigest(), msgspec.Raw(data))
    write_atomically(path, msgspec.json.encode(sealed))


def read_unit(path: Path, kind: type[T], say: Say) -> T | None:
    """The stored unit, or None if there is none. A damaged file is renamed to *.damaged."""
    try:
        return _opened(path.read_bytes(), kind)
    except FileNotFoundError:
        return None
    except ValueError as error:  # msgspec's, and of bytes that are no UTF-8
        aside = keep_aside(path, "damaged")
        say(f"{path.name} is damaged ({error}); kept as {aside.name}, measured again")
        return None


def _opened(data: bytes, kind: type[T]) -> T:
    sealed = msgspec.json.decode(data, type=_Sealed)
    if hashlib.sha256(sealed.unit).hexdigest() != sealed.sha256:
        raise ValueError("its content does not match its hash")
    return msgspec.json.decode(sealed.unit, type=kind)
