"""Several processes at once, and one that is killed: no record is lost or damaged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.tuning.fake import ENVIRONMENT, PROBLEM, config, tuned
from tqgen_kernels.codegen.problem import CONTEXT_BUCKETS
from tqgen_kernels.tuning.database.folder import Database

ROOT = Path(__file__).parents[3]
KEY = ENVIRONMENT.device_key

PART = """
import sys
from dataclasses import replace as with_fields
from pathlib import Path
from msgspec.structs import replace
from tests.tuning.fake import *
from tqgen_kernels.codegen.problem import CONTEXT_BUCKETS

folder, number, of = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
database = Database(folder)
whole = tuned(count=60)
default = whole.results[0]
print("ready", flush=True)
sys.stdin.readline()
for result in whole.results[number::of]:
    kept = (default, result) if result.index else (default,)
    selected = {"lanes": 3} if result.index == 3 else {"lanes": 0}
    part = replace(whole, results=kept, selected=selected, stopped="user")
    database.save(part)
    problem = with_fields(PROBLEM, gqa=1 + number, q_len=1 + result.index % 5)
    tuned(problem=problem, database=database)
"""

FOREVER = """
import itertools, sys
from dataclasses import replace as with_fields
from pathlib import Path
from tests.tuning.fake import *
from tqgen_kernels.codegen.problem import CONTEXT_BUCKETS

database = Database(Path(sys.argv[1]))
print("ready", flush=True)
for turn in itertools.count():
    context = CONTEXT_BUCKETS[turn % 3]
    runner = FakeRunner(steady({turn % 6: 5e-4}))
    problem = with_fields(PROBLEM, context=context)
    tune(task(60, problem), runner, ENVIRONMENT, database=database, again=True, clock=runner.clock)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_tune_at_once_lose_nothing(database: Database, notices: list[str]) -> None:
    processes = [start(PART, database.root, number, 3) for number in range(3)]
    for process in processes:  # all wait for this, so that they run at the same time
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0, 0]
    merged = database.load(KEY, PROBLEM)
    assert merged is not None
    assert merged.results == tuned(count=60).results
    assert merged.selected == {"lanes": 3}
    assert len(list(database.records())) == 1 + 3 * 5
    assert notices == []
    assert not [p for p in database.root.rglob("*") if p.suffix == ".tmp"]


def test_kill_9_at_any_moment_leaves_every_older_record_readable(
    database: Database, notices: list[str]
) -> None:
    from dataclasses import replace as with_fields

    problems = [with_fields(PROBLEM, context=context) for context in CONTEXT_BUCKETS[:3]]
    for problem in problems:
        tuned(problem=problem, count=60, database=database)
    chance = random.Random(5)
    written = set()
    for number in range(60):
        if number >= 6 and len(written) > 3:  # on a busy machine some write nothing in their time
            break
        process = start(FOREVER, database.root)
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        for problem in problems:
            record = database.load(KEY, problem)
            assert record is not None
            written.add(record.content_sha256)
    assert notices == []
    assert len(written) > 3  # the killed processes did write
    assert database.save(tuned(count=60), anew=True).selected == {"lanes": 3}  # the lock is free
    assert database.load(KEY, PROBLEM).result(config(3)) is not None  # type: ignore[union-attr]
