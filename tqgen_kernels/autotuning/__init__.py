"""What a user calls to tune, on this machine's device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tqgen_kernels import backends
from tqgen_kernels.autotuning.roads import roads_of
from tqgen_kernels.autotuning.runner import DeviceRunner
from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.execution import kernels
from tqgen_kernels.tuning.database.folder import Database, user_database
from tqgen_kernels.tuning.record.environment import detect
from tqgen_kernels.tuning.record.policy import DEFAULT, QUICK
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.session import DEFAULT_SECONDS, tune_all
from tqgen_kernels.tuning.search.strategy import Strategy
from tqgen_kernels.tuning.search.task import task_of
from tqgen_kernels.tuning.search.tuner import Progress


def device_backend() -> str:
    """The backend to tune: the device's, or the emulator where there is no GPU."""
    name = backends.default_name()
    return "emulated" if name == backends.PORTABLE else name


def autotune(
    problems: Sequence[Problem],
    *,
    seconds: float | None = DEFAULT_SECONDS,
    quick: bool = False,
    again: bool = False,
    backend: str | None = None,
    strategy: Strategy | None = None,
    database: Database | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] = lambda state: None,
) -> list[Record]:
    """Tunes `problems` on this device and stores a record of each; later caches choose by them.

    seconds: for all of them together, None for no limit. quick: few candidates, few samples.
    workers: processes that compile and verify candidates, None for what suits the backend, 0 for
    none: then a kernel that hangs the device hangs the caller.
    Goes on from stored records; `again` measures anew. Where there is no GPU the emulator runs the
    kernels at a small size: that verifies them, and says nothing about the speed of a GPU.
    """
    name = backend or device_backend()
    tasks = [task_of(p, roads=roads_of(p)) for p in problems]
    runner = DeviceRunner(name, workers)
    try:
        records = tune_all(
            tasks,
            runner,
            detect(name),
            database=user_database() if database is None else database,
            policy=QUICK if quick else DEFAULT,
            strategy=strategy,
            seconds=seconds,
            again=again,
            progress=progress,
        )
    finally:
        runner.close()
        kernels.forget()
    return records
