"""Which files of a database can never be used again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from tqgen_kernels.files import TEMPORARY
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.select import Validate

STALE_SECONDS = 3600.0  # a temporary file that old belongs to no running process


def prunable(database: Database, validate: Validate) -> Iterator[tuple[Path, str]]:
    """(file, why): damaged ones kept aside, left-overs of writes that were cut off, and records
    whose winner this version would not use."""
    for path in database.files():
        stored = database.read(path)
        if stored.record is None:
            if path.exists():  # else it has just been kept aside
                yield path, stored.reason
            continue
        winner = stored.record.winner
        if winner is None:
            yield path, "nothing in it was correct"
        elif (reason := validate(stored.record.parsed_problem, stored.record, winner)) is not None:
            yield path, reason
    for path in sorted(database.root.glob("*/*")):
        if ".json." in path.name and path.suffix != TEMPORARY:
            yield path, "kept aside"
        elif path.suffix == TEMPORARY and time.time() - path.stat().st_mtime > STALE_SECONDS:
            yield path, "a write that was cut off"
