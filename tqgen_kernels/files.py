"""The user's cache directory, and files that are either wholly there or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE_VARIABLE = "TQGEN_CACHE_DIR"
LOCK_SECONDS = 60.0
TEMPORARY = ".tmp"


def cache_dir() -> Path:
    """$TQGEN_CACHE_DIR, or the user's cache directory."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("tqgen_kernels"))


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` as the file `path`, wholly or not at all. Raises OSError."""
    with written_whole(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which then becomes `path`. A process that dies, or a write
    that fails, leaves the old file as it was.

    The folder is made if it is not there. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name[:40]}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY}"
    temporary = path.with_name(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time in `folder`, which is created. The system frees a dead one's lock."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
        yield


def keep_aside(path: Path, word: str) -> Path:
    """Renames `path` to a free name that ends in `word`, so that it is not read again."""
    for number in range(1, 1000):
        aside = path.with_name(f"{path.name}.{word}" + (f"-{number}" if number > 1 else ""))
        if not aside.exists():
            break
    return path.rename(aside)
