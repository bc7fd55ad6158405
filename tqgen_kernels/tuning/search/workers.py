"""Candidates tried in processes of their own: many compile at once, and one that hangs or crashes
the device takes its process with it, not the search."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import msgspec

from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import Problem, format_problem, parse_problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.record import printable
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import INVALIDITIES, InvalidVariant

START_SECONDS = 120.0  # imports, and a context on the device
GRACE_SECONDS = 10.0  # what is under way when the budget ends may still finish,
GRACE_SHARE = 0.5  # within this share of it more
READY = "ready"

Verdict = Verification | InvalidVariant


class NoWorkers(RuntimeError):
    """No process could be started; its message has the last words of one."""


@dataclass(frozen=True)
class Job:
    """One candidate; its verdict is remembered by `key`, the hash of its text."""

    key: str
    problem: Problem
    config: Config


def encode_job(job: Job) -> bytes:
    """The line that a worker process reads."""
    line = {"problem": format_problem(job.problem), "config": dict(job.config.values)}
    return msgspec.json.encode(line) + b"\n"


def decode_job(line: bytes) -> tuple[Problem, Config]:
    """What `encode_job` wrote. Raises ValueError."""
    read: dict[str, Any] = msgspec.json.decode(line)
    return parse_problem(read["problem"]), Config.of(**read["config"])


def encode_verdict(verdict: Verdict) -> bytes:
    """The line that a worker process answers."""
    if isinstance(verdict, InvalidVariant):
        return msgspec.json.encode({"kind": verdict.kind, "detail": verdict.detail}) + b"\n"
    return msgspec.json.encode(verdict) + b"\n"


def decode_verdict(line: bytes) -> Verdict:
    """What `encode_verdict` wrote. Raises ValueError for anything else."""
    read: Any = msgspec.json.decode(line)
    if not isinstance(read, dict):
        raise ValueError("no JSON object")
    if "kind" in read:
        if read["kind"] not in INVALIDITIES:
            raise ValueError(f"kind {read['kind']!r}")
        return InvalidVariant(read["kind"], str(read.get("detail", "")))
    return msgspec.convert(read, Verification)


class _Worker:
    """One process. It answers READY, then a verdict a job."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        self._words: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed with the process
        self.late = False
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._words,
                env=environment,
            )
        except OSError as error:
            self._words.close()
            raise NoWorkers(f"{command[0]} cannot be started: {error}") from None
        if self._answer(START_SECONDS).strip() != READY.encode():
            self.kill()
            raise NoWorkers(f"a worker process did not start: {self.last_words()}")

    def ask(self, job: Job, seconds: float) -> Verdict | None:
        """The verdict; "timeout" and a dead process after `seconds`, None if it died by itself."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(encode_job(job))
            self.process.stdin.flush()
        except OSError:
            return None
        line = self._answer(seconds)
        if line:
            try:
                return decode_verdict(line)
            except (ValueError, msgspec.MsgspecError):
                self.kill()
                return None
        if self.late:
            return InvalidVariant(
                "timeout", f"compiling and one launch took more than {seconds:g} seconds"
            )
        return None

    def _answer(self, seconds: float) -> bytes:
        """One line; b"" when the process died or was killed for taking too long."""
        assert self.process.stdout is not None
        timer = threading.Timer(seconds, self._too_late)
        timer.daemon = True
        timer.start()
        try:
            return self.process.stdout.readline()
        finally:
            timer.cancel()

    def _too_late(self) -> None:
        self.late = True
        self.process.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """The end of its input ends it; a moment later it is killed."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    self.process.kill()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
        self._words.close()

    def last_words(self) -> str:
        """How it ended, and the end of what it wrote to standard error."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self.process.wait()
        how = f"exit status {code}"
        if code < 0:
            try:
                how = signal.Signals(-code).name
            except ValueError:
                how = f"signal {-code}"
        self._words.seek(0, 2)
        self._words.seek(max(0, self._words.tell() - 2000))
        lines = self._words.read().decode(errors="replace").split("\n")
        words = [line.strip() for line in lines if line.strip()]
        return printable(f"{how}{': ' if words else ''}{' | '.join(words[-3:])}", 400)


@dataclass
class Workers:
    """At most `count` processes that run `command`, started when first needed.

    timeout: seconds in which a process must have compiled, launched and verified a candidate; then
    it is killed, and the next candidate gets a new one.
    """

    command: Sequence[str]
    count: int
    timeout: float
    environment: Mapping[str, str] | None = None
    _idle: list[_Worker] = field(default_factory=list)
    _busy: list[_Worker] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prove(
        self,
        jobs: Iterable[Job],
        budget: Budget | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Verdict]:
        """Verdicts by key: of all jobs, or of those that the budget allowed.

        progress gets how many are done, and of how many. Raises NoWorkers.
        """
        budget = budget or Budget()
        waiting = deque(jobs)
        share = budget.seconds if budget.seconds is not None else GRACE_SECONDS / GRACE_SHARE
        grace = min(GRACE_SECONDS, GRACE_SHARE * share)
        total, verdicts, failures = len(waiting), dict[str, Verdict](), list[NoWorkers]()
        stop, killed = threading.Event(), threading.Event()

        def work() -> None:
            while waiting and not stop.is_set() and not budget.spent:
                try:
                    job = waiting.popleft()
                    verdict = self._verdict(job, killed)
                except IndexError:  # another thread took the last one
                    return
                except NoWorkers as error:
                    failures.append(error)
                    return
                if verdict is not None:
                    verdicts[job.key] = verdict

        count = min(self.count, total)
        threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        ended: float | None = None
        try:
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05 / count)
                progress(len(verdicts), total)
                if budget.spent:
                    stop.set()
                    ended = budget.clock() if ended is None else ended
                    if budget.clock() - ended > grace:
                        self._kill(killed)
        except BaseException:
            stop.set()
            self._kill(killed)
            raise
        if failures and not verdicts:
            raise failures[0]
        return verdicts

    def _verdict(self, job: Job, killed: threading.Event) -> Verdict | None:
        """A process that died by itself may have been the victim of something else: once more.

        None when all processes are being killed.
        """
        for last in (False, True):
            worker = self._take()
            verdict = worker.ask(job, self.timeout)
            with self._lock:
                self._busy.remove(worker)
                if killed.is_set():
                    verdict = None
                elif verdict is not None and not worker.late:
                    self._idle.append(worker)
                    return verdict
            if verdict is None and last and not killed.is_set():
                words = worker.last_words()
                verdict = InvalidVariant("launch", f"the process that launched it died: {words}")
            worker.close()
            if verdict is not None or killed.is_set():
                return verdict
        return None

    def _take(self) -> _Worker:
        with self._lock:
            if self._idle:
                worker = self._idle.pop()
                self._busy.append(worker)
                return worker
        worker = _Worker(self.command, self.environment)
        with self._lock:
            self._busy.append(worker)
        return worker

    def _kill(self, killed: threading.Event) -> None:
        killed.set()
        with self._lock:
            for worker in self._busy:
                worker.process.kill()

    def close(self) -> None:
        """Ends the processes. `prove` starts new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()
