"""Bytes on disk that are not those that were written, and what a reader makes of them."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.reliability.kinds import Kind

OUTCOMES = ("refused", "reported", "made again", "same content")


def truncations(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Cut off after every byte, or every `step`th."""
    return (data[:n] for n in range(0, len(data), step))


def bit_flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """One bit changed, every one or every `step`th."""
    for bit in range(0, 8 * len(data), step):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def other_bytes(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """Nothing, zeros, noise, a block of zeros inside, twice the content, garbage behind it."""
    size = len(data)
    yield b""
    yield bytes(size)
    yield chance.randbytes(size)
    yield data + data
    yield data + chance.randbytes(40)
    for _ in range(20):  # what a file system leaves of a page that was never written
        at = chance.randrange(size)
        yield data[:at] + bytes(len(data[at : at + 64])) + data[at + 64 :]


def outcome(kind: Kind, folder: Path, damaged: bytes) -> str:
    """One of OUTCOMES, or else what went wrong. The file holds content 0, damaged."""
    path = kind.path(folder)
    said: list[str] = []
    try:
        found = kind.read(folder, said.append)
    except kind.refusals as error:
        return "refused" if str(error) else "refused without a word"
    except Exception as error:  # a traceback for the user
        return f"{type(error).__name__}: {error}"
    if any(not line.isprintable() for line in said):
        return f"unprintable: {said!r}"
    if found is None:
        if not said:
            return "not used, and nothing said"
        return _kept_aside(path, damaged) if kind.aside else "reported"
    if found != 0:
        return f"another content: {found}"
    return "made again" if said or kind.derived else "same content"


def _kept_aside(path: Path, damaged: bytes) -> str:
    asides = list(path.parent.glob(f"{path.name}.*"))
    if path.exists():
        return "reported" if not asides else "both there and aside"
    return "reported" if [p.read_bytes() for p in asides] == [damaged] else "not kept aside"


def damage(kind: Kind, folder: Path, effort: int) -> Counter[str]:
    """Every fault of this page, one after the other. effort: 1 for every bit, n for every nth;
    below 16 a truncation at every byte."""
    found: Counter[str] = Counter()
    _renew(kind, folder)
    data = kind.path(folder).read_bytes()
    faults = (
        truncations(data, max(1, effort // 8)),
        bit_flips(data, effort),
        other_bytes(data, random.Random(3)),
    )
    for damaged in (each for some in faults for each in some):
        if damaged == data:
            continue
        _renew(kind, folder)
        kind.path(folder).write_bytes(damaged)
        found[outcome(kind, folder, damaged)] += 1
    return found


def _renew(kind: Kind, folder: Path) -> None:
    """An undamaged file, and nothing that earlier damage has left."""
    path = kind.path(folder)
    for left in {*path.parent.glob(f"{path.name}.*"), *folder.rglob("*damaged*")}:
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    kind.write(folder, 0, lambda line: None)
    assert kind.read(folder, lambda line: None) == 0
    if not path.exists():  # read once only, as a downloaded wheel
        kind.write(folder, 0, lambda line: None)
