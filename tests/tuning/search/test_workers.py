"""Candidates in processes of their own: a made-up worker, then the real one with a kernel that
never ends."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tuning.fake import PROBLEM, config
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant
from tqgen_kernels.tuning.search.workers import (
    Job,
    NoWorkers,
    Workers,
    decode_job,
    decode_verdict,
    encode_job,
    encode_verdict,
)

# Does what `lanes` of the candidate says: 0 to 99 is right, the others are faults.
WORKER = """
import json, os, signal, sys, time
from pathlib import Path
folder, together = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"started.{os.getpid()}").touch()
print("ready", flush=True)
for line in sys.stdin:
    lanes = json.loads(line)["config"]["lanes"]
    (folder / f"tried.{lanes}.{os.getpid()}").touch()
    if lanes == 100:
        time.sleep(600)
    if lanes == 101:
        print("terminating: the device is gone", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGABRT)
    if lanes == 102:
        print("no verdict", flush=True)
        continue
    if lanes == 103:
        print(json.dumps({"kind": "compile", "detail": "error: no such type"}), flush=True)
        continue
    if lanes == 104 and len(list(folder.glob("tried.104.*"))) == 1:
        os._exit(1)
    while len(list(folder.glob("tried.*"))) < together:
        time.sleep(0.01)
    print(json.dumps({"error": lanes / 100, "tolerance": 1.0, "measure": "m"}), flush=True)
"""

Make = Callable[..., Workers]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def workers(count: int, *, together: int = 1, timeout: float = 60.0) -> Workers:
        command = (sys.executable, "-S", str(script), str(tmp_path), str(together))
        return Workers(command, count, timeout)

    return workers


def jobs(*lanes: int) -> list[Job]:
    return [Job(f"text {n}", PROBLEM, config(n)) for n in lanes]


def started(folder: Path) -> int:
    return len(list(folder.glob("started.*")))


def test_lines_read_back() -> None:
    (job,) = jobs(7)
    assert decode_job(encode_job(job)) == (PROBLEM, config(7))
    right = Verification(1e-6, 1e-5, "relative")
    assert decode_verdict(encode_verdict(right)) == right
    wrong = decode_verdict(encode_verdict(InvalidVariant("launch", "why")))
    assert isinstance(wrong, InvalidVariant)
    assert (wrong.kind, wrong.detail) == ("launch", "why")


@pytest.mark.parametrize("line", [b"", b"[]", b'{"kind": "luck"}', b'{"error": 1}'])
def test_what_is_no_verdict_raises(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"truncated|no JSON object|luck|measure|tolerance"):
        decode_verdict(line)


def test_every_job_gets_its_verdict_and_processes_are_used_again(
    make: Make, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    workers = make(2)
    verdicts = workers.prove(jobs(*range(9)), progress=lambda *state: seen.append(state))
    assert verdicts == {f"text {n}": Verification(n / 100, 1.0, "m") for n in range(9)}
    assert seen[-1] == (9, 9)
    workers.prove(jobs(10, 11))
    workers.close()
    assert started(tmp_path) <= 2


def test_candidates_are_tried_at_once(make: Make, tmp_path: Path) -> None:
    workers = make(4, together=4)  # none answers before four were begun
    assert len(workers.prove(jobs(0, 1, 2, 3))) == 4
    workers.close()
    assert started(tmp_path) == 4


def test_one_that_hangs_is_a_timeout_and_the_others_are_not_lost(make: Make) -> None:
    workers = make(1, timeout=1.0)
    verdicts = workers.prove(jobs(0, 100, 1))
    workers.close()
    hung = verdicts.pop("text 100")
    assert isinstance(hung, InvalidVariant)
    assert hung.kind == "timeout"
    assert "more than 1 seconds" in hung.detail
    assert sorted(verdicts) == ["text 0", "text 1"]


def test_one_that_ends_its_process_is_tried_twice_and_then_invalid(
    make: Make, tmp_path: Path
) -> None:
    workers = make(1)
    verdicts = workers.prove(jobs(101, 102, 103, 104, 5))
    workers.close()
    died, garbage, refused = (verdicts[f"text {n}"] for n in (101, 102, 103))
    assert isinstance(died, InvalidVariant)
    assert died.kind == "launch"
    assert "SIGABRT: terminating: the device is gone" in died.detail
    assert len(list(tmp_path.glob("tried.101.*"))) == 2
    assert isinstance(garbage, InvalidVariant)
    assert isinstance(refused, InvalidVariant)
    assert (refused.kind, refused.detail) == ("compile", "error: no such type")
    assert verdicts["text 104"] == Verification(1.04, 1.0, "m")  # it was somebody else's fault
    assert verdicts["text 5"] == Verification(0.05, 1.0, "m")


def test_a_spent_budget_leaves_the_rest_untried(make: Make, tmp_path: Path) -> None:
    workers = make(2)
    assert workers.prove(jobs(*range(50)), Budget(0.0)) == {}
    assert started(tmp_path) == 0
    tried: list[int] = []

    def clock() -> float:  # spent once three were tried
        tried.append(len(list(tmp_path.glob("tried.*"))))
        return 1.0 if tried[-1] >= 3 else 0.0

    verdicts = workers.prove(jobs(*range(50)), Budget(1.0, clock))
    workers.close()
    assert 1 <= len(verdicts) <= 6


def test_what_hangs_when_the_budget_ends_is_killed_without_a_verdict(make: Make) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    workers = make(1)
    assert workers.prove(jobs(100), Budget(3.0, clock)) == {}
    assert workers.prove(jobs(1)) == {"text 1": Verification(0.01, 1.0, "m")}
    workers.close()


def test_ctrl_c_ends_the_processes(make: Make, tmp_path: Path) -> None:
    workers = make(2)

    def interrupt(done: int, total: int) -> None:
        if len(list(tmp_path.glob("tried.*"))) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workers.prove(jobs(100, 100), progress=interrupt)
    workers.close()


@pytest.mark.parametrize(
    "command",
    [
        ("/nonexistent/python",),
        (sys.executable, "-c", "raise SystemExit('no device')"),
        (sys.executable, "-c", "print('hello')"),
    ],
)
def test_no_process_at_all(command: tuple[str, ...]) -> None:
    with pytest.raises(NoWorkers, match="start"):
        Workers(command, 2, 60.0).prove(jobs(0, 1))


def test_no_jobs_start_no_process(make: Make, tmp_path: Path) -> None:
    assert make(3).prove([]) == {}
    assert started(tmp_path) == 0
