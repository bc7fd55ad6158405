"""Two records of one problem on one device into one: no candidate's samples are lost."""

from __future__ import annotations

from msgspec.structs import replace

from tqgen_kernels.tuning.record.decide import decide
from tqgen_kernels.tuning.record.environment import mismatches
from tqgen_kernels.tuning.record.record import Record, Result


def comparable(a: Record, b: Record) -> bool:
    """Whether results of both may stand in one record."""
    return (
        a.problem == b.problem
        and a.template_sha256 == b.template_sha256
        and a.space_sha256 == b.space_sha256
        and a.policy == b.policy
        and a.provenance == b.provenance
        and a.environment.device_key == b.environment.device_key
        and not mismatches(a.environment, b.environment)
    )


def merged(stored: Record, fresh: Record) -> Record:
    """`fresh` with what only `stored` has, and the winner of both together.

    Of two results of one config, the one with samples from a final is kept, else the one with
    more samples, else the fresh one. A candidate whose text changed keeps the fresh one.
    """
    by_index = {r.index: r for r in stored.results}
    for result in fresh.results:
        older = by_index.get(result.index)
        by_index[result.index] = result if older is None else _better(older, result)
    results = tuple(by_index[index] for index in sorted(by_index))
    decision = decide(results, fresh.policy.tolerance)
    stopped = "complete" if "complete" in (stored.stopped, fresh.stopped) else fresh.stopped
    return replace(
        fresh,
        results=results,
        selected=None if decision.result is None else decision.result.config,
        noise=decision.noise,
        stopped=stopped,
    )


def _better(older: Result, newer: Result) -> Result:
    if older.source_sha256 != newer.source_sha256 or older.outcome != newer.outcome:
        return newer

    def weight(r: Result) -> tuple[int, int]:
        return len(r.final_samples), len(r.samples)

    return older if weight(older) > weight(newer) else newer
