"""Whether a record that decodes also makes sense."""

from __future__ import annotations

import itertools

from msgspec.structs import replace

from tqgen_kernels.codegen.problem import format_problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.buckets import tuned_as
from tqgen_kernels.tuning.record.decide import RULE, decide
from tqgen_kernels.tuning.record.record import Damaged, Record, Result, decode, printable, seal


def sound_record(data: bytes) -> Record:
    """A record that decodes and makes sense, its winner decided by today's rule.

    Raises Damaged with the reason, or OtherSchema.
    """
    record = decode(data)
    reason = unsound(record)
    if reason is not None:
        raise Damaged(reason)
    if record.rule == RULE:
        return record
    decision = decide(record.results, record.policy.tolerance)
    chosen = None if decision.result is None else decision.result.config
    return seal(replace(record, rule=RULE, selected=chosen, noise=decision.noise))


def unsound(record: Record) -> str | None:
    """Why a record contradicts itself; None if it does not. Never raises."""
    try:
        problem = record.parsed_problem
    except ValueError as error:
        return printable(str(error))
    if record.problem != format_problem(problem):
        return "its problem is not spelled in full"
    if problem != tuned_as(problem):
        return "its problem is no bucket"
    if len({tuple(r.config.items()) for r in record.results}) != len(record.results):
        return "a config appears twice"
    indices = [r.index for r in record.results]
    if any(a >= b for a, b in itertools.pairwise(indices)):
        return "its candidates are out of order"
    for result in record.results:
        reason = _unsound_result(result)
        if reason:
            return printable(f"{result.key}: {reason}")
    return _unsound_choice(record)


def _unsound_result(result: Result) -> str | None:
    if result.outcome != "correct":
        return "timed although it is invalid" if result.timed else None
    if result.error is None or result.tolerance is None or not result.error <= result.tolerance:
        return "called correct with an error outside its tolerance"
    if not result.timed:
        return "called correct and never timed"
    if (result.road is None) != bool(result.source_sha256):
        return "a kernel has a source hash, a road has none"
    return None


def _unsound_choice(record: Record) -> str | None:
    if record.rule != RULE:
        return None  # it is not the stored winner that counts
    chosen = decide(record.results, record.policy.tolerance).result
    selected = None if record.selected is None else Config.of(**record.selected)
    if selected != (None if chosen is None else chosen.key):
        return "its winner is not the one that its samples give"
    return None
