"""What is stored of one problem on one device. Every value is bounded: a file is not trusted."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from tqgen_kernels.codegen.problem import Problem, parse_problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.decide import RULE
from tqgen_kernels.tuning.record.environment import Count, Environment
from tqgen_kernels.tuning.record.policy import Policy

SCHEMA = "tqgen-tuning/1"
MAX_BYTES = 16 * 2**20  # of one record's file
MAX_RESULTS = 20_000

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}\Z")]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=4096)]
Sha256 = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?\Z")]  # empty: of nothing
Seconds = Annotated[float, Meta(gt=0, lt=1e6)]
Amount = Annotated[float, Meta(ge=0, lt=1e300)]
Small = Annotated[int, Meta(ge=-(2**31), le=2**31)]
Values = Annotated[dict[Name, bool | Small | Word], Meta(min_length=1, max_length=32)]
Samples = Annotated[tuple[Seconds, ...], Meta(max_length=10_000)]
Outcome = Literal["correct", "constraints", "compile", "launch", "timeout", "correctness"]
Stopped = Literal["complete", "budget", "user", "running"]
Provenance = Literal["measured", "imported"]


class Damaged(ValueError):
    """A file that is no sound record, and why."""


class OtherSchema(ValueError):
    """A record of another major version of the format."""


class Result(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One candidate. Samples are seconds per launch.

    index: its place in declared order; ties go to the lower one.
    samples: phase 1. final_samples: phase 2, interleaved with the other finalists.
    error, tolerance, measure: against the float64 reference.
    bandwidth: bytes_moved / median, GB/s. roofline: that over the device's peak.
    """

    config: Values
    index: Annotated[int, Meta(ge=0, lt=2**31)]
    outcome: Outcome
    detail: Text = ""
    source_sha256: Sha256 = ""
    error: Amount | None = None
    tolerance: Amount | None = None
    measure: Text = ""
    samples: Samples = ()
    final_samples: Samples = ()
    bytes_moved: Count = 0
    bandwidth: Amount | None = None
    roofline: Amount | None = None

    @property
    def key(self) -> Config:
        return Config.of(**self.config)

    @property
    def road(self) -> str | None:
        return str(self.config["road"]) if tuple(self.config) == ("road",) else None

    @property
    def timed(self) -> tuple[float, ...]:
        """The samples that decide: those of phase 2 where there are any."""
        return self.final_samples or self.samples


class Record(Struct, frozen=True, forbid_unknown_fields=True):
    """All that was measured of one problem on one device. `results` are in declared order.

    space_sha256: of the declared candidates. noise: the band around the fastest candidate within
    which the earlier-declared one is chosen, relative. rule: by which `selected` follows from the
    samples (decide.py). peak_bandwidth: GB/s.
    """

    problem: Text
    environment: Environment
    policy: Policy
    template_sha256: Sha256
    space_sha256: Sha256
    results: Annotated[tuple[Result, ...], Meta(max_length=MAX_RESULTS)]
    default: Values
    selected: Values | None
    noise: Amount = 0.0
    rule: Word = RULE
    strategy: Word = "guided"
    stopped: Stopped = "complete"
    peak_bandwidth: Amount | None = None
    tuned_at: Word = ""
    provenance: Provenance = "measured"
    schema: Word = SCHEMA
    content_sha256: Sha256 = ""

    @property
    def parsed_problem(self) -> Problem:
        return parse_problem(self.problem)

    def result(self, config: Config | None) -> Result | None:
        """The result of one config."""
        return next((r for r in self.results if r.key == config), None)

    @property
    def winner(self) -> Result | None:
        return None if self.selected is None else self.result(Config.of(**self.selected))


def space_sha256(configs: tuple[Config, ...]) -> str:
    """Of the declared candidates in order: changes when one is added or removed."""
    return hashlib.sha256("\n".join(map(str, configs)).encode()).hexdigest()


def seal(record: Record) -> Record:
    """The record with the hash of its content: of the bytes that `encode` writes, without it."""
    bare = _layout(msgspec.structs.replace(record, content_sha256=""))
    return msgspec.structs.replace(record, content_sha256=hashlib.sha256(bare).hexdigest())


def encode(record: Record) -> bytes:
    """JSON, one candidate a line, sealed."""
    return _layout(seal(record)) + b"\n"


def _layout(record: Record) -> bytes:
    frame = msgspec.json.encode(msgspec.structs.replace(record, results=()))
    lines = b",\n".join(map(msgspec.json.encode, record.results))
    # A quotation mark inside a string is escaped: this occurs once.
    return frame.replace(b'"results":[]', b'"results":[\n' + lines + b"\n]", 1)


def _intact(data: bytes) -> bool:
    """Whether the bytes are those that were hashed. It is the bytes that count, so that a version
    with more fields can still tell an old file from a damaged one."""
    found = _SEAL.search(data)
    if found is None:
        return False
    bare = data[: found.start(1)] + data[found.end(1) : found.end()].rstrip()
    return hashlib.sha256(bare).hexdigest().encode() == found.group(1)


class _Head(Struct):
    schema: Word


_SEAL = re.compile(rb'"content_sha256":"([0-9a-f]{64})"\}\s*\Z')
_head = msgspec.json.Decoder(_Head)
_record = msgspec.json.Decoder(Record)


def decode(data: bytes) -> Record:
    """A record whose types, bounds and content hash are right.

    Raises Damaged with the reason, or OtherSchema. Says nothing yet about whether the record
    makes sense: soundness.py does.
    """
    if len(data) > MAX_BYTES:
        raise Damaged(f"{len(data)} bytes, at most {MAX_BYTES}")
    try:
        record: Record = _decoded(_record, data)
    except Damaged:
        _check_schema(_decoded(_head, data).schema)
        raise
    _check_schema(record.schema)
    if not _intact(data):
        raise Damaged("its content does not match its hash: it was cut off or edited")
    return record


def _check_schema(schema: str) -> None:
    if schema == SCHEMA:
        return
    if schema.startswith("tqgen-tuning/"):
        raise OtherSchema(f"format {printable(schema)}, this version reads {SCHEMA}")
    raise Damaged("it is no tuning record")


def _decoded(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise Damaged(printable(str(error))) from None


def printable(text: str, most: int = 200) -> str:
    """Text from a file, safe to print: one line, no control characters, not long."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 3] + "..."
