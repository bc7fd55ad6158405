"""How candidates are measured: part of a record, since it decides what the samples mean."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

Few = Annotated[int, Meta(ge=1, le=10_000)]
Fraction = Annotated[float, Meta(ge=0, le=10)]


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """Measurement policy.

    clock: what the runner times with: "chain" is the host around one evaluation of launches that
        wait for one another, "host" around one of independent launches, "device" events.
    sample_seconds: one sample is so many launches that it lasts about this long, so that what an
        evaluation costs on top is the same share of every candidate's time.
    samples: phase 1, of every candidate. Phase 2: `rounds` there-and-back rounds over the
        `finalists` fastest and as many of the earliest-declared, all within `finalist_margin` of
        the fastest: the winner is the earliest-declared that is as fast as the fastest.
    tolerance: two candidates closer than this are equal, however quiet the samples are.
    give_up: a candidate this many times slower than the best is left after one sample.
    limit: at most so many candidates, those that rank first; None for all.
    """

    name: Annotated[str, Meta(max_length=64)] = "default"
    clock: Annotated[str, Meta(max_length=64)] = "chain"
    sample_seconds: Annotated[float, Meta(gt=0, le=60)] = 2e-3
    max_launches: Few = 256
    samples: Few = 5
    finalists: Few = 8
    finalist_margin: Fraction = 0.08
    rounds: Few = 8
    tolerance: Fraction = 0.02
    give_up: Annotated[float, Meta(ge=1, le=1e6)] = 3.0
    limit: Few | None = None

    @property
    def effort(self) -> int:
        """Samples of a winner: of two finished records the one with more effort is kept."""
        return self.samples + 2 * self.rounds


DEFAULT = Policy()
QUICK = Policy(name="quick", sample_seconds=1e-3, samples=3, finalists=4, rounds=4, limit=12)
