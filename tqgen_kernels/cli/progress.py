"""One progress bar whose label changes, fed by callbacks (what, done, total)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@dataclass(frozen=True)
class Bars:
    """`update` is the callback that long work takes; `console` prints above the bar."""

    progress: Progress

    @property
    def console(self) -> Console:
        return self.progress.console

    def update(self, what: str, done: int, total: int) -> None:
        """Show `done` of `total`; a new `what` starts a new line, a finished one stays."""
        tasks = {task.description: task.id for task in self.progress.tasks}
        if what not in tasks:
            tasks[what] = self.progress.add_task(what, total=total)
        self.progress.update(tasks[what], completed=done, total=total)


@contextmanager
def bars(console: Console) -> Iterator[Bars]:
    """Progress lines on `console` (standard error, so that standard output can be piped)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        yield Bars(progress)
