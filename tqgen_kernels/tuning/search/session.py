"""Several problems within one budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.environment import Environment
from tqgen_kernels.tuning.record.policy import DEFAULT, Policy
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import Runner, Wanted
from tqgen_kernels.tuning.search.strategy import Strategy
from tqgen_kernels.tuning.search.tuner import Progress, Task, tune, wanted

DEFAULT_SECONDS = 120.0
PROOF_SHARE = 0.5  # of the time, at most, until the first candidate is timed


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
    """A record a task, in order.

    First the runner compiles and verifies candidates of all tasks, many at once, for at most
    PROOF_SHARE of the time; nothing is timed meanwhile. Then each task may spend an equal share of
    the time that is left: what one does not need, the others get, those before it too when there
    is a database to go on from. KeyboardInterrupt passes through, after saving.
    """
    whole = Budget(seconds, clock)
    ahead = [
        [
            (task.problem, config)
            for config in wanted(
                task,
                runner,
                environment,
                database=database,
                policy=policy,
                strategy=strategy,
                again=again,
            )
        ]
        for task in tasks
    ]
    runner.prove(
        list(_in_turns(ahead)),
        Budget(None if seconds is None else PROOF_SHARE * seconds, clock),
        lambda done, total: progress(Progress(None, "compile", done, total, left=whole.left)),
    )

    def one(task: Task, waiting: int, again: bool) -> Record:
        left = whole.left
        return tune(
            task,
            runner,
            environment,
            database=database,
            policy=policy,
            strategy=strategy,
            budget=Budget(None if left is None else left / waiting, clock),
            again=again,
            progress=progress,
            clock=clock,
        )

    records = [one(task, len(tasks) - done, again) for done, task in enumerate(tasks)]
    short = [i for i, record in enumerate(records) if record.stopped == "budget"]
    for done, i in enumerate(short if database is not None else ()):
        if whole.left:
            records[i] = one(tasks[i], len(short) - done, again=False)
    return records


def _in_turns(lists: Sequence[Sequence[Wanted]]) -> Iterator[Wanted]:
    """The first of each, then the second of each, and so on."""
    for row in zip_longest(*lists):
        yield from (wanted for wanted in row if wanted is not None)
