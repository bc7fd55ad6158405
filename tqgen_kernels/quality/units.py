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


def unit_path(folder: Path, description: dict[str, Any]) -> Path:
    """File of the unit that `description` (JSON values) names; equal descriptions, equal files."""
    text = json.dumps(description, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def write_unit(path: Path, unit: Any) -> None:
    """A dataclass as JSON. Write atomically: the file is there whole or not at all."""
    write_atomically(path, msgspec.json.encode(unit))


def read_unit(path: Path, kind: type[T], say: Say) -> T | None:
    """The stored unit, or None if there is none. A damaged file is renamed to *.damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        aside = keep_aside(path, "damaged")
        say(f"{path.name} is damaged ({error}); kept as {aside.name}, measured again")
        return None
