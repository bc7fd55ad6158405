"""Compiled kernels on disk, by the hash of everything they were made from."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import filelock

from tqgen_kernels.files import cache_dir
from tqgen_kernels.kept import kept


def directory() -> Path:
    """TQGEN_CACHE_DIR or the user's cache directory, then `emulator`."""
    return cache_dir() / "emulator"


def digest(*parts: str | bytes) -> str:
    """A key for `parts`; no two lists of parts share one."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()[:40]


def stored(key: str, suffix: str, make: Callable[[Path], None], *, exclusive: bool = False) -> Path:
    """The file or folder of `key`, made by `make(path)` if there is none yet, as `kept` does.

    With `exclusive` all processes but one wait, for what takes long to make.
    """
    entry = directory() / key[:2] / key
    if not exclusive:
        return kept(entry, key + suffix, make)
    entry.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(entry.with_name(f"{key}.lock")):
        return kept(entry, key + suffix, make)
