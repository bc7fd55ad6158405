"""Tuning records on disk: <root>/<device key>/<problem>.json, one problem a file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqgen_kernels.codegen.paths import GENERATED
from tqgen_kernels.codegen.problem import FAMILY_OF, Problem, format_problem
from tqgen_kernels.files import (
    CACHE_VARIABLE,
    cache_dir,
    keep_aside,
    locked,
    write_atomically,
)
from tqgen_kernels.tuning.record.buckets import tuned_as
from tqgen_kernels.tuning.record.environment import mismatches
from tqgen_kernels.tuning.record.merge import comparable, merged
from tqgen_kernels.tuning.record.record import (
    MAX_BYTES,
    Damaged,
    OtherSchema,
    Record,
    encode,
    printable,
    seal,
)
from tqgen_kernels.tuning.record.soundness import sound_record, unsound


class TuningWarning(UserWarning):
    """A record that could not be read or written; tuning and selection go on."""


def _warn(text: str) -> None:
    warnings.warn(text, TuningWarning, stacklevel=3)


@dataclass(frozen=True)
class Stored:
    """A record, or why the file holds none."""

    path: Path
    record: Record | None
    reason: str = ""


@dataclass(frozen=True)
class Database:
    """A folder of records. `notice` gets one line for everything that is not as it should be."""

    root: Path
    writable: bool = True
    notice: Callable[[str], None] = _warn

    def path(self, device_key: str, problem: Problem) -> Path:
        name = re.sub(r"[^a-zA-Z0-9]+", "_", format_problem(tuned_as(problem)))
        return self.root / device_key / f"{name}.json"

    def load(self, device_key: str, problem: Problem) -> Record | None:
        """The record of `problem`, in its bucket; None if there is none that can be read."""
        path = self.path(device_key, problem)
        return self.read(path).record if path.is_file() else None

    def read(self, path: Path) -> Stored:
        """One file. What is damaged is renamed, so that it is kept and never read again."""
        try:
            record = _read(path)
        except (OtherSchema, OSError) as error:
            self.notice(f"{path} is not used: {printable(str(error))}.")
            return Stored(path, None, str(error))
        except Damaged as error:
            self._set_aside(path, str(error))
            return Stored(path, None, str(error))
        if path != self.path(record.environment.device_key, record.parsed_problem):
            reason = "it holds another problem or device than its name says"
            self.notice(f"{path} is not used: {reason}.")
            return Stored(path, None, reason)
        return Stored(path, record)

    def files(self, family: str = "") -> Iterator[Path]:
        """Every file that may hold a record (of a family), device by device.

        Raises ValueError for a family that does not exist.
        """
        if family and family not in FAMILY_OF.values():
            known = ", ".join(FAMILY_OF.values())
            raise ValueError(f"kernel family {family!r} is unknown: use one of {known}.")
        if self.root.is_dir():
            prefix = f"{family}_" if family else ""
            yield from sorted(p for p in self.root.glob("*/*.json") if p.name.startswith(prefix))

    def records(self, family: str = "") -> Iterator[Record]:
        """Every record that can be read."""
        for path in self.files(family):
            record = self.read(path).record
            if record is not None:
                yield record

    def save(self, record: Record, *, anew: bool = False) -> Record:
        """Stores `record` and what another process stored meanwhile; returns both as one.

        anew: in the place of what is stored, however much effort that took.
        A folder that is full or cannot be written costs a notice: the record is returned.
        Raises ValueError for a record that contradicts itself.
        """
        reason = unsound(record)
        if reason is not None:
            raise ValueError(f"This record of {record.problem} cannot be stored: {reason}.")
        path = self.path(record.environment.device_key, record.parsed_problem)
        if not self.writable:
            self.notice(
                f"{self.root} is not written to; the record of {record.problem} is not kept."
            )
            return record
        try:
            with locked(path.parent):
                record = self._with_stored(path, record, anew)
                write_atomically(path, encode(record))
        except OSError as error:
            self.notice(
                f"The tuning record cannot be kept in {path.parent}: {error.strerror or error}. "
                f"Set {CACHE_VARIABLE} to a folder with room that you may write to."
            )
        return record

    def _with_stored(self, path: Path, record: Record, anew: bool) -> Record:
        if not path.is_file():
            return seal(record)
        try:
            stored = _read(path)
        except OtherSchema:
            keep_aside(path, "other")
            return seal(record)
        except Damaged as error:
            self._report_aside(keep_aside(path, "damaged"), str(error))
            return seal(record)
        if anew:
            return seal(record)
        if comparable(stored, record):
            record = merged(stored, record)
        elif _outranks(stored, record):
            record = stored
        return seal(record)

    def _set_aside(self, path: Path, reason: str) -> None:
        try:
            if not self.writable:
                raise PermissionError
            with locked(path.parent):
                if not path.is_file() or _sound(path):
                    return  # another process has put it right
                self._report_aside(keep_aside(path, "damaged"), reason)
        except OSError:
            self.notice(f"{path} is damaged and not used: {printable(reason)}.")

    def _report_aside(self, aside: Path, reason: str) -> None:
        self.notice(f"A damaged tuning record is kept as {aside}: {printable(reason)}.")


def _read(path: Path) -> Record:
    """A sound record. Raises Damaged, OtherSchema or OSError."""
    if path.stat().st_size > MAX_BYTES:
        raise Damaged(f"{path.stat().st_size} bytes, at most {MAX_BYTES}")
    return sound_record(path.read_bytes())


def _sound(path: Path) -> bool:
    try:
        _read(path)
    except (Damaged, OtherSchema):
        return False
    return True


def _outranks(stored: Record, fresh: Record) -> bool:
    """A finished record of this version that was measured with more effort is not replaced."""
    return (
        stored.problem == fresh.problem
        and stored.template_sha256 == fresh.template_sha256
        and stored.space_sha256 == fresh.space_sha256
        and stored.provenance == fresh.provenance
        and not mismatches(stored.environment, fresh.environment)
        and stored.stopped == "complete"
        and stored.policy.effort > fresh.policy.effort
    )


def user_database(notice: Callable[[str], None] = _warn) -> Database:
    """The records that were measured or imported on this machine."""
    return Database(cache_dir() / "tuned", notice=notice)


def bundled_database(notice: Callable[[str], None] = _warn) -> Database:
    """The records that travel with the package."""
    return Database(GENERATED / "tuned", writable=False, notice=notice)
