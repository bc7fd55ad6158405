"""Compiled kernels on disk, by the hash of everything they were made from."""

import hashlib
import os
import secrets
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs

SEAL = "sha256"  # beside each entry: the hash of its content


class CacheWarning(UserWarning):
    """An entry that was damaged on disk; it is kept aside and made again."""


def directory() -> Path:
    """TQGEN_CACHE_DIR or the user's cache directory, then `emulator`."""
    root = os.environ.get("TQGEN_CACHE_DIR") or platformdirs.user_cache_dir("tqgen_kernels")
    return Path(root) / "emulator"


def digest(*parts: str | bytes) -> str:
    """A key for `parts`; no two lists of parts share one."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:40]


def stored(key: str, suffix: str, make: Callable[[Path], None], *, exclusive: bool = False) -> Path:
    """The file or folder of `key`, made by `make(path)` if there is none yet.

    It appears whole or not at all, so processes may race for it; with `exclusive` all but one
    wait, for what takes long to make. What has changed since it was made is kept aside with a
    warning and made again: a library that was cut off would end the process that loads it.
    """
    entry = directory() / key[:2] / key
    if not exclusive:
        return _stored(entry, key + suffix, make)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(entry.with_name(key + ".lock")):
        return _stored(entry, key + suffix, make)


def _stored(entry: Path, name: str, make: Callable[[Path], None]) -> Path:
    """`entry` is a folder: what was made, under its `name`, and its seal."""
    if entry.exists() and not _intact(entry, name):
        _keep_aside(entry)
    if not entry.exists():
        _make(entry, name, make)
    return entry / name


def _intact(entry: Path, name: str) -> bool:
    try:
        return (entry / SEAL).read_bytes() == _content_digest(entry / name)
    except OSError:
        return False


def _content_digest(made: Path) -> bytes:
    files = sorted(path for path in made.rglob("*") if path.is_file()) if made.is_dir() else [made]
    parts = [part for f in files for part in (str(f.relative_to(made)), f.read_bytes())]
    return digest(*parts).encode()


def _keep_aside(entry: Path) -> None:
    aside = entry.with_name(f"{entry.name}.damaged-{secrets.token_hex(4)}")
    try:
        entry.rename(aside)
    except FileNotFoundError:
        return  # another process was faster
    warnings.warn(
        f"A compiled kernel on disk is damaged: kept as {aside}, and made again.",
        CacheWarning,
        stacklevel=2,
    )


def _make(entry: Path, name: str, make: Callable[[Path], None]) -> None:
    workspace = entry.with_name(f".making-{secrets.token_hex(8)}")
    whole, room = workspace / "whole", workspace / "room"  # what is kept; what `make` litters
    try:
        for folder in (whole, room):
            folder.mkdir(parents=True)
        made = room / name
        make(made)
        (whole / SEAL).write_bytes(_content_digest(made))
        made.rename(whole / name)
        try:
            whole.rename(entry)
        except OSError:
            if not entry.is_dir():
                raise  # else another process was faster
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
