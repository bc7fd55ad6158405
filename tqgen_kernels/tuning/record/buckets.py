"""The sizes that problems are tuned at."""

from __future__ import annotations

from dataclasses import asdict, replace

from tqgen_kernels.codegen.problem import (
    CONTEXT_BUCKETS,
    AttendProblem,
    PrefillProblem,
    Problem,
    batch_bucket,
    context_bucket,
    family_of,
    query_bucket,
)

# The Metal text does not depend on them.
SIZES = ("kv_heads", "heads", "batch", "queries", "context")


def bucketed(problem: Problem) -> Problem:
    """`problem` with its sizes, but for the heads, rounded up to the bucket that holds them."""
    if isinstance(problem, PrefillProblem):
        problem = replace(problem, queries=query_bucket(problem.queries))
    return replace(
        problem,
        context=context_bucket(problem.context),
        batch=batch_bucket(problem.batch),
    )


def tuned_as(problem: Problem) -> Problem:
    """The problem whose record decides for `problem`: in its bucket, and with the newest tokens
    in the window. The variants of both are the same, and do the same but for one write."""
    if isinstance(problem, AttendProblem):
        problem = replace(problem, fresh=False)
    return bucketed(problem)


def smaller_contexts(problem: Problem) -> tuple[Problem, ...]:
    """The same problem in every smaller context bucket, the nearest first."""
    below = [b for b in reversed(CONTEXT_BUCKETS) if b < problem.context]
    return tuple(replace(problem, context=b) for b in below)


def same_text(a: Problem, b: Problem) -> bool:
    """Whether two problems differ at most in size, so that they share every variant's text."""
    return family_of(a) == family_of(b) and _text_fields(a) == _text_fields(b)


def _text_fields(problem: Problem) -> dict[str, object]:
    return {k: v for k, v in asdict(problem).items() if k not in SIZES}
