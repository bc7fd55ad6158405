"""Several problems within one budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.environment import Environment
from tqgen_kernels.tuning.record.policy import DEFAULT, Policy
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import Runner
from tqgen_kernels.tuning.search.strategy import Strategy
from tqgen_kernels.tuning.search.tuner import Progress, Task, tune

DEFAULT_SECONDS = 120.0


def tune_all(
    tasks: Sequence[Task],
    runner: Runner,
    environment: Environment,
    *,
    database: Database | None = None,
    policy: Policy = DEFAULT,
    strategy: Strategy | None = None,
    seconds: float | None = DEFAULT_SECONDS,
    again: bool = False,
    progress: Callable[[Progress], None] = lambda state: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Record]:
    """A record a task, in order. Each task may spend an equal share of the time that is left:
    what one does not need, the others get. KeyboardInterrupt passes through, after saving."""
    whole = Budget(seconds, clock)
    records = []
    for done, task in enumerate(tasks):
        left = whole.left
        share = None if left is None else left / (len(tasks) - done)
        records.append(
            tune(
                task,
                runner,
                environment,
                database=database,
                policy=policy,
                strategy=strategy,
                budget=Budget(share, clock),
                again=again,
                progress=progress,
                clock=clock,
            )
        )
    return records
