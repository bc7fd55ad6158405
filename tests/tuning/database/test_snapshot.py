"""What one process sends so that others choose the same."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as change

from tests.tuning.fake import ENVIRONMENT, PROBLEM, FakeRunner, accept, config, task, tuned
from tqgen_kernels.codegen.problem import AttendProblem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.database.select import select
from tqgen_kernels.tuning.database.snapshot import (
    Snapshot,
    decode_snapshot,
    encode_snapshot,
    gist,
    take,
)
from tqgen_kernels.tuning.record.decide import decide
from tqgen_kernels.tuning.record.soundness import unsound
from tqgen_kernels.tuning.search.runner import road_name
from tqgen_kernels.tuning.search.tuner import tune

SISTER = change(ENVIRONMENT, device="NVIDIA H100 PCIe")
OTHER = change(ENVIRONMENT, architecture="sm_80", device="NVIDIA A100-SXM4-80GB")


def sent(own: Database, bundled: Database, *, tuned: bool = True) -> Snapshot:
    """Taken, and read back as another process would."""
    snapshot = take(ENVIRONMENT, own, bundled, tuned=tuned, storage="fragment")
    return decode_snapshot(encode_snapshot(snapshot))


@pytest.mark.parametrize("seed", range(15))
def test_others_choose_what_the_sender_would(seed: int, tmp_path: Path) -> None:
    """Noisy records of several problems and devices, in both databases."""
    rng = random.Random(seed)
    own, bundled = Database(tmp_path / "own"), Database(tmp_path / "bundled")
    problems = [replace(PROBLEM, context=c) for c in (1024, 4096, 16384)]
    problems.append(replace(PROBLEM, gqa=7))
    for database in (own, bundled):
        for problem in problems:
            if rng.random() < 0.5:
                continue
            base = {lanes: rng.choice((1e-3, 1.01e-3, 9e-4)) for lanes in range(-1, 6)}

            def seconds(over: Config, call: int, base: dict[int, float] = base) -> float:
                lanes = -1 if road_name(over) else int(over["lanes"])
                return base[lanes] * rng.uniform(1.0, 1.05)

            runner = FakeRunner(seconds)
            where = rng.choice((ENVIRONMENT, ENVIRONMENT, SISTER, OTHER))
            tune(task(6, problem), runner, where, database=database, clock=runner.clock)
    received = sent(own, bundled)
    for problem in (*problems, AttendProblem(64, 64, 4, 4, context=4096)):
        here = select(problem, ENVIRONMENT, own, bundled, accept, default=config(0))
        there = select(
            problem, received.environment, received.own, received.bundled, accept, default=config(0)
        )
        assert there == here


def test_a_gist_is_a_sound_record_with_the_same_winners() -> None:
    record = tuned({n: 1e-3 + n * 1e-6 for n in range(200)}, count=200)
    small = gist(record)
    assert unsound(small) is None
    assert len(small.results) <= 5
    for roads in (True, False):
        whole = decide(record.results, record.policy.tolerance, roads=roads)
        assert decide(small.results, record.policy.tolerance, roads=roads) == whole


def test_records_of_other_architectures_and_untuned_modes_send_nothing(tmp_path: Path) -> None:
    own = Database(tmp_path)
    tuned(environment=OTHER, database=own)
    assert sent(own, own).own.held == ()
    tuned(database=own)
    assert len(sent(own, own).own.held) == 1
    off = sent(own, own, tuned=False)
    assert (off.tuned, off.own.held, off.storage) == (False, (), "fragment")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"environment": 1}', b"\xff" * 9])
def test_what_is_no_snapshot_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match="no snapshot"):
        decode_snapshot(data)


def test_an_unsound_record_is_left_out(tmp_path: Path) -> None:
    own = Database(tmp_path)
    tuned(database=own)
    data = encode_snapshot(take(ENVIRONMENT, own, own, tuned=True, storage="tiles"))
    cut = data.replace(b'"outcome":"correct"', b'"outcome":"timeout"', 1)
    assert cut != data
    assert decode_snapshot(cut).own.held == ()
    assert len(decode_snapshot(cut).bundled.held) == 1
