"""Two processes with tuning records of their own choose as rank 0 would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import pytest
from msgspec.structs import replace as change

from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import DequantizeProblem, Problem, family_of, format_problem
from tqgen_kernels.codegen.render import render, template_hash
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.execution import ranks, registry
from tqgen_kernels.execution.storage import storage_for
from tqgen_kernels.quant.scheme import Scheme
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.environment import detect
from tqgen_kernels.tuning.record.policy import DEFAULT
from tqgen_kernels.tuning.record.record import Record, Result, space_sha256

PROBLEM = DequantizeProblem(32, 3, codebook="cubic")
CONFIGS = candidates(FAMILIES["dequantize"], PROBLEM)

PROGRAM = """
import json, os, sys
rank = int(os.environ["MLX_RANK"])
os.environ.update(json.loads(sys.argv[2])[rank])
import mlx.core as mx
from mlx_lm import load
from mlx_lm.utils import sharded_load
from tqgen_kernels import make_prompt_cache
from tqgen_kernels.execution import kernels, registry
from tqgen_kernels.execution.storage import storage_for
from tqgen_kernels.codegen.problem import parse_problem
from tqgen_kernels.quant.scheme import Scheme

problem = parse_problem(sys.argv[3])

def state():
    choice = registry.choose(problem, "emulated")
    return [choice.origin, str(choice.config), storage_for(Scheme(), 32, 32)]

group = mx.distributed.init(strict=True)
before = state()
if rank == 1:
    make_prompt_cache(load(sys.argv[1])[0])  # not shared: no communication
lone = state()
found = []
for groups in ((None, group), (group, None)):  # tensor parallel, then pipeline
    model, _ = sharded_load(sys.argv[1], *groups)
    make_prompt_cache(model)
    found.append(state())
if rank == 0:
    make_prompt_cache(model)  # agreed already: no communication
print(json.dumps([rank, before, lone, *found]), flush=True)
"""
LAUNCH = "from mlx._distributed_utils.launch import main; main()"


def record(problem: Problem, winner: int) -> Record:
    """A made-up record of this machine's emulator in which candidate `winner` is the fastest."""
    configs = candidates(FAMILIES[family_of(problem)], problem)
    results = tuple(
        Result(
            dict(c.values),
            index,
            "correct",
            source_sha256=render(problem, c).sha256,
            samples=(1e-4 if index == winner else 1e-3,) * 5,
            error=0.0,
            tolerance=1e-3,
        )
        for index, c in enumerate(configs)
    )
    return Record(
        problem=format_problem(problem),
        environment=detect("emulated"),
        policy=DEFAULT,
        template_sha256=template_hash(family_of(problem)),
        space_sha256=space_sha256(configs),
        results=results,
        default=dict(configs[0].values),
        selected=dict(configs[winner].values),
        noise=0.02,
    )


def test_ranks_with_other_records_choose_as_rank_0(tiny_model_path: Path, tmp_path: Path) -> None:
    for rank, winner in enumerate((2, 3)):
        Database(tmp_path / str(rank) / "tuned").save(record(PROBLEM, winner))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    settings = [
        {
            "TQGEN_BACKEND": "emulated",
            "TQGEN_CACHE_DIR": str(tmp_path / str(rank)),
            "TQGEN_STORAGE": storage,
        }
        for rank, storage in enumerate(("fragment", "tiles"))
    ]
    ran = subprocess.run(
        [
            *(sys.executable, "-c", LAUNCH),
            *("-n", "2", "--hosts", "127.0.0.1", "--backend", "ring"),
            *(sys.executable, str(program), str(tiny_model_path)),
            *(json.dumps(settings), format_problem(PROBLEM)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    lines = sorted(json.loads(x) for x in ran.stdout.splitlines() if x.startswith("["))
    own = [["exact record", str(CONFIGS[n]), s] for n, s in ((2, "fragment"), (3, "tiles"))]
    expected = [[rank, own[rank], own[rank], own[0], own[0]] for rank in (0, 1)]
    assert lines == expected, ran.stdout + ran.stderr


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))


def test_a_model_of_one_process_never_communicates(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> mx.array:
        raise AssertionError("communicated")

    monkeypatch.setattr(mx.distributed, "all_sum", never)
    monkeypatch.setattr(mx.distributed, "init", never)
    assert ranks.group_of(nn.Sequential(nn.Linear(4, 4))) is None
    assert ranks.group_of(SimpleNamespace(layers=[])) is None
    ranks.agree_on(nn.Linear(4, 4))
    assert registry.leader() is None


def test_a_follower_never_tunes_and_takes_the_leaders_storage(
    alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQGEN_AUTOTUNE", "missing")
    leader = registry.snapshot("fragment")
    registry.follow(leader)
    try:
        choice = registry.choose(PROBLEM, "emulated")
        assert (choice.origin, choice.config) == ("default", CONFIGS[0])
        assert storage_for(Scheme(), 64, 64) == "fragment"
        assert storage_for(Scheme(), 48, 48) == "tiles"  # no matrix unit takes that
        elsewhere = change(leader.environment, backend="cuda")
        registry.follow(type(leader)(elsewhere, True, "tiles", leader.own, leader.bundled))
        monkeypatch.setenv("TQGEN_AUTOTUNE", "off")
        assert registry.choose(PROBLEM, "emulated").detail == "the declared default"
    finally:
        registry.follow(None)
    assert storage_for(Scheme(), 64, 64) == "tiles"
