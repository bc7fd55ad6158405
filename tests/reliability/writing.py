"""Faults while a file is written: the old content or the new one is there, never a part of it."""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.reliability.kinds import Kind

WRITE_OUTCOMES = ("refused, old content kept", "refused, made again later", "written", "whole")
DONE, REFUSED, FAILED = 0, 3, 1  # how a writing process ends


def disk_full(kind: Kind, folder: Path, every: int) -> Counter[str]:
    """No room after n bytes, for up to 400 n: content 1 written over content 0."""
    found: Counter[str] = Counter()
    kind.write(folder, 0, _nothing)
    size = kind.path(folder).stat().st_size

    def write_with_room(room: int) -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        return _write(kind, folder, 1)

    for room in range(0, size + 100, max(1, every * size // 400)):
        status = _wait(_fork(lambda room=room: write_with_room(room)))  # type: ignore[misc]
        found[_after(kind, folder, status)] += 1
        kind.write(folder, 0, _nothing)
    return found


def read_only(kind: Kind, folder: Path, every: int) -> Counter[str]:
    """A folder that may not be written to."""
    kind.write(folder, 0, _nothing)
    folders = [folder, *(p for p in folder.rglob("*") if p.is_dir())]

    def write_without_rights() -> int:
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may write anywhere
        return _write(kind, folder, 1)

    for each in folders:
        each.chmod(0o555)
    status = _wait(_fork(write_without_rights))
    for each in folders:
        each.chmod(0o755)
    return Counter([_after(kind, folder, status)])


def two_writers(kind: Kind, folder: Path, every: int) -> Counter[str]:
    """Two processes that write content 0 and content 1 over and over, and one that reads."""
    kind.write(folder, 0, _nothing)
    rounds = max(10, 60 // every)
    running = {_fork(lambda n=n: _repeat(kind, folder, n, rounds)) for n in (0, 1)}  # type: ignore[misc]
    found: Counter[str] = Counter()
    while running:
        found[_read(kind, folder)] += 1
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                running.discard(child)
                code = os.waitstatus_to_exitcode(status)
                found["written" if code == DONE else f"writer ended with {code}"] += rounds
        time.sleep(0.001)
    return found


def killed(kind: Kind, folder: Path, every: int) -> Counter[str]:
    """A writer that is killed at some moment; the next one can write."""
    chance = random.Random(9)
    found: Counter[str] = Counter()
    kind.write(folder, 0, _nothing)
    for _ in range(max(8, 100 // every)):
        child = _fork(lambda: _repeat(kind, folder, 1, 10**6))
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found[_read(kind, folder)] += 1
        kind.write(folder, 0, _nothing)
        if kind.read(folder, _nothing) != 0:
            found["cannot be written any more"] += 1
    return found


def _read(kind: Kind, folder: Path) -> str:
    try:
        found = kind.read(folder, _nothing)
    except kind.refusals as error:
        return f"refused: {error}"
    return "whole" if found in (0, 1) or (found is None and kind.derived) else f"content {found}"


def _after(kind: Kind, folder: Path, status: int) -> str:
    litter = [p.name for p in folder.rglob("*") if p.name.endswith(".tmp") or ".making" in p.name]
    if litter:
        return f"left {litter}"
    found = kind.read(folder, _nothing)
    if status == DONE:
        return "written" if found in (1, kind.second) else f"said to be written, found {found}"
    if status != REFUSED:
        return f"writer ended with {status}"
    if kind.derived:
        return "refused, made again later"
    return "refused, old content kept" if found == 0 else f"refused, but found {found}"


def _write(kind: Kind, folder: Path, content: int) -> int:
    said: list[str] = []
    try:
        kind.write(folder, content, said.append)
    except (OSError, *kind.refusals):
        return REFUSED
    return REFUSED if said else DONE


def _repeat(kind: Kind, folder: Path, content: int, rounds: int) -> int:
    return max(_write(kind, folder, content) for _ in range(rounds))


def _fork(action: Callable[[], int]) -> int:
    child = os.fork()
    if child:
        return child
    status = FAILED
    try:
        status = action()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(status)


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _nothing(line: str) -> None:
    return None
