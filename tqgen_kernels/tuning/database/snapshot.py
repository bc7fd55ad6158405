"""What one process chooses by, small enough to send: so that others choose the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from tqgen_kernels.codegen.problem import Problem, family_of, format_problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.buckets import tuned_as
from tqgen_kernels.tuning.record.decide import BASELINES, decide
from tqgen_kernels.tuning.record.environment import Environment
from tqgen_kernels.tuning.record.record import Damaged, OtherSchema, Record, Result, encode
from tqgen_kernels.tuning.record.soundness import sound_record

Raw = Annotated[list[msgspec.Raw], Meta(max_length=100_000)]


class _Sent(Struct, frozen=True):
    environment: Environment
    tuned: bool
    storage: Annotated[str, Meta(max_length=32)]
    own: Raw
    bundled: Raw


@dataclass(frozen=True)
class Recalled:
    """Records in memory, asked like a Database."""

    held: tuple[Record, ...]

    def load(self, device_key: str, problem: Problem) -> Record | None:
        """The record of `problem`, in its bucket."""
        wanted = format_problem(tuned_as(problem))
        return next(
            (
                r
                for r in self.held
                if r.problem == wanted and r.environment.device_key == device_key
            ),
            None,
        )

    def records(self, family: str = "") -> Iterator[Record]:
        """Every record (of a family)."""
        for record in self.held:
            if not family or family_of(record.parsed_problem) == family:
                yield record


@dataclass(frozen=True)
class Snapshot:
    """environment: the device that the choices are made for. tuned: whether records count.
    storage: how new caches lay out their tiles, where the codebook and the head_dim allow it."""

    environment: Environment
    tuned: bool
    storage: str
    own: Recalled
    bundled: Recalled


def take(
    environment: Environment, own: Database, bundled: Database, *, tuned: bool, storage: str
) -> Snapshot:
    """Of the records of this architecture, what decides."""
    kept = []
    for database in (own, bundled):
        found = database.records() if tuned else ()
        alike = (r for r in found if r.environment.architecture == environment.architecture)
        kept.append(Recalled(tuple(gist(r) for r in alike)))
    return Snapshot(environment, tuned, storage, *kept)


def gist(record: Record) -> Record:
    """The record with the candidates that decide and the default only."""
    tolerance = record.policy.tolerance
    needed = {Config.of(**record.default)}
    for roads in (True, False):
        result = decide(record.results, tolerance, roads=roads).result
        if result is not None:
            needed |= {result.key, _fastest(record.results, roads, result)}
    return replace(record, results=tuple(r for r in record.results if r.key in needed))


def _fastest(results: Iterable[Result], roads: bool, chosen: Result) -> Config:
    """The one whose noise band the chosen one lies in."""
    pool = [r for r in results if r.outcome == "correct" and r.timed and r.road not in BASELINES]
    pool = [r for r in pool if roads or r.road is None]
    if chosen.final_samples:
        pool = [r for r in pool if r.final_samples]
    return min(pool, key=lambda r: (median(r.timed), r.index)).key


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """For `decode_snapshot` in another process."""
    sent = _Sent(
        snapshot.environment,
        snapshot.tuned,
        snapshot.storage,
        *([msgspec.Raw(encode(r)) for r in held.held] for held in (snapshot.own, snapshot.bundled)),
    )
    return msgspec.json.encode(sent)


def decode_snapshot(data: bytes) -> Snapshot:
    """What `encode_snapshot` wrote; a record that is not sound is left out.

    Raises ValueError for what is no snapshot.
    """
    try:
        sent = msgspec.json.decode(data, type=_Sent)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"This is no snapshot of tuning records: {error}.") from None
    return Snapshot(
        sent.environment, sent.tuned, sent.storage, _recalled(sent.own), _recalled(sent.bundled)
    )


def _recalled(raw: Iterable[Any]) -> Recalled:
    held = []
    for one in raw:
        try:
            held.append(sound_record(bytes(one)))
        except (Damaged, OtherSchema):
            continue
    return Recalled(tuple(held))
