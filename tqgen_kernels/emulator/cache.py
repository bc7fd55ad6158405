"""Compiled kernels on disk, by the hash of everything they were made from."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import filelock
import platformdirs


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
    """The file of `key`, made by `make(path)` if there is none yet.

    The file appears whole or not at all, so processes may race for it; with `exclusive` all but
    one wait, for files that take long to make.
    """
    path = directory() / key[:2] / (key + suffix)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if not exclusive:
        _make(path, make)
        return path
    with filelock.FileLock(path.with_name(path.name + ".lock")):
        if not path.exists():
            _make(path, make)
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    workspace = Path(tempfile.mkdtemp(prefix=".making-", dir=path.parent))
    try:
        made = workspace / path.name
        make(made)
        made.replace(path)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
