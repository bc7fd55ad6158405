"""Records in one file, to carry from one machine to another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from tqgen_kernels.files import write_atomically
from tqgen_kernels.tuning.database.folder import Database, user_database
from tqgen_kernels.tuning.database.select import Validate
from tqgen_kernels.tuning.database.validate import validate as validate_text
from tqgen_kernels.tuning.record.record import (
    SCHEMA,
    Damaged,
    OtherSchema,
    Record,
    encode,
    printable,
    seal,
)
from tqgen_kernels.tuning.record.soundness import sound_record

EXPORT_SCHEMA = "tqgen-tuning-export/1"
MAX_EXPORT_BYTES = 64 * 2**20
Status = Literal["imported", "kept", "refused"]


class _Export(Struct):
    schema: Annotated[str, Meta(max_length=64)]
    records: Annotated[list[msgspec.Raw], Meta(max_length=100_000)]


class _Schema(Struct):
    schema: Annotated[str, Meta(max_length=64)]


@dataclass(frozen=True)
class Imported:
    """What became of one record of a file."""

    problem: str
    device: str
    status: Status
    reason: str


def export_tuned(records: Iterable[Record], path: Path) -> int:
    """Writes `records` to one JSON file, atomically. Returns how many. Raises OSError."""
    raw = [msgspec.Raw(encode(record)) for record in records]
    data = msgspec.json.encode(_Export(EXPORT_SCHEMA, raw))
    write_atomically(Path(path).absolute(), data + b"\n")
    return len(raw)


def import_tuned(
    path: Path,
    database: Database | None = None,
    *,
    validate: Validate = validate_text,
    replace_own: bool = False,
) -> list[Imported]:
    """Takes every record of `path` that is sound and whose winner renders to the measured text,
    into the user's database unless another one is given.

    They are marked as imported: the winner is compared with the reference on this device before
    its first use. A record that was measured here stays, unless `replace_own`. Raises ValueError
    for a file that is no export, OSError for one that cannot be read.
    """
    database = user_database() if database is None else database
    return [_take(raw, database, validate, replace_own) for raw in _raw_records(Path(path))]


def _raw_records(path: Path) -> list[bytes]:
    size = path.stat().st_size
    if size > MAX_EXPORT_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than the {MAX_EXPORT_BYTES} allowed.")
    data = path.read_bytes()
    schema = _decode(data, _Schema, path).schema
    if schema == SCHEMA:
        return [data]
    if schema != EXPORT_SCHEMA:
        raise ValueError(
            f"{path} is no export of this version: its schema is {printable(schema)!r}, "
            f"not {EXPORT_SCHEMA!r}."
        )
    return [bytes(raw) for raw in _decode(data, _Export, path).records]


def _decode(data: bytes, kind: type[Any], path: Path) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is no export of tuning records: {printable(str(error))}."
        ) from None


def _take(raw: bytes, database: Database, validate: Validate, replace_own: bool) -> Imported:
    try:
        record = sound_record(raw)
    except (Damaged, OtherSchema) as error:
        return Imported("?", "?", "refused", printable(str(error)))
    problem, device = printable(record.problem), printable(record.environment.device)
    winner = record.winner
    if winner is None:
        reason: str | None = "nothing in it was correct"
    else:
        reason = validate(record.parsed_problem, record, winner)
    if reason is not None:
        return Imported(problem, device, "refused", printable(reason))
    own = database.load(record.environment.device_key, record.parsed_problem)
    if own is not None and own.provenance == "measured" and not replace_own:
        return Imported(problem, device, "kept", "a record that was measured here stays")
    database.save(seal(replace(record, provenance="imported")), anew=True)
    return Imported(problem, device, "imported", "verified on the device before its first use")
