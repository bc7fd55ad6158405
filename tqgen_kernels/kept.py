"""What takes long to make is made once and kept in the cache directory, with a seal."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

from tqgen_kernels.files import keep_aside

SEAL = "sha256"  # beside what is kept: the hash of its content


class KeptWarning(UserWarning):
    """What was kept is damaged."""


def kept(entry: Path, name: str, make: Callable[[Path], None]) -> Path:
    """The file or folder `entry / name`, made by `make(path)` if there is none yet.

    It appears whole or not at all, so processes may race for it. What has changed since it was
    made is kept aside with a warning and made again: a library that was cut off would end the
    process that loads it. Raises what `make` raises, and OSError.
    """
    if entry.exists() and not _intact(entry, name):
        _keep_aside(entry)
    if not entry.exists():
        _make(entry, name, make)
    return entry / name


def _intact(entry: Path, name: str) -> bool:
    try:
        return (entry / SEAL).read_text() == _sha256(entry / name)
    except (OSError, UnicodeDecodeError):
        return False


def _sha256(made: Path) -> str:
    """Of a file, or of the names and contents of all files of a folder."""
    files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    state = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        state.update(f"{content} {path.relative_to(made).as_posix()}\n".encode())
    return state.hexdigest()


def _keep_aside(entry: Path) -> None:
    try:
        aside = keep_aside(entry, "damaged")
    except FileNotFoundError:
        return  # another process was faster
    warnings.warn(
        f"{entry.name} is damaged: kept as {aside}, and made again.", KeptWarning, stacklevel=3
    )


def _make(entry: Path, name: str, make: Callable[[Path], None]) -> None:
    workspace = entry.with_name(f".making-{secrets.token_hex(8)}")
    whole, room = workspace / "whole", workspace / "room"  # what is kept; what `make` litters
    try:
        for folder in (whole, room):
            folder.mkdir(parents=True)
        made = room / name
        make(made)
        (whole / SEAL).write_text(_sha256(made))
        made.rename(whole / name)
        try:
            whole.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise  # else another process was faster
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
