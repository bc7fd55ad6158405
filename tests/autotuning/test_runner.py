"""The tuner's runner on the emulator: in this process and with worker processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tqgen_kernels import emulator
from tqgen_kernels.autotuning.runner import DeviceRunner, TuningNotice, companions_of
from tqgen_kernels.backends import emulated
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    DequantizeProblem,
    EncodeProblem,
    Storage,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Variant
from tqgen_kernels.execution import registry
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant, road
from tqgen_kernels.tuning.search.workers import Workers

PROBLEM = DequantizeProblem(head_dim=32, bits=2, kv_heads=1, dtype="float32")
FIRST, SECOND, *_ = candidates(FAMILIES[family_of(PROBLEM)], PROBLEM)
ENDLESS = "volatile uint again = 1u; while (again) { again = 1u; }\n"
# The worker's own program, but nothing that it launches ever ends.
HANGING_WORKER = f"""
from dataclasses import replace
from tqgen_kernels.autotuning.worker import main
from tqgen_kernels.backends import emulated

build = emulated.build
emulated.build = lambda v: build(replace(v, source={ENDLESS!r} + v.source))
main("emulated")
"""


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No kernel of the emulator ends."""
    build = emulated.build

    def hanging(variant: Variant) -> object:
        return build(replace(variant, source=ENDLESS + variant.source))

    monkeypatch.setattr(emulated, "build", hanging)
    monkeypatch.setattr(registry, "_launchers", {})
    with emulator.options(timeout=0.5):
        yield


def test_the_emulator_stops_a_kernel_that_hangs(endless: None) -> None:
    with pytest.raises(InvalidVariant, match="still running") as caught:
        DeviceRunner("emulated").prepare(PROBLEM, FIRST)
    assert caught.value.kind == "timeout"


def test_a_kernel_that_hangs_in_a_worker_is_a_timeout() -> None:
    runner = DeviceRunner("emulated", workers=1)
    runner._pool = Workers((sys.executable, "-c", HANGING_WORKER), 1, timeout=2.0)
    with pytest.raises(InvalidVariant) as caught:
        runner.prepare(PROBLEM, FIRST)
    runner.close()
    assert caught.value.kind == "timeout"
    assert "more than 2 seconds" in caught.value.detail


def test_what_workers_verified_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = DeviceRunner("emulated", workers=2)
    wanted = [(PROBLEM, FIRST), (PROBLEM, SECOND), (PROBLEM, road("mlx"))]
    assert [runner.is_proven(*one) for one in wanted] == [False, False, True]
    runner.prove([*wanted, (replace(PROBLEM, context=1024), FIRST)], Budget())
    runner.close()
    assert len(runner._verdicts) == 2  # of one text at two sizes, one
    assert all(runner.is_proven(*one) for one in wanted)

    def never(*arguments: object) -> None:
        raise AssertionError("verified twice")

    monkeypatch.setattr(registry, "verify", never)
    prepared = runner.prepare(PROBLEM, FIRST)
    assert prepared.verification == runner._verdicts[prepared.source_sha256]
    assert isinstance(prepared.verification, Verification)
    assert prepared.launch(2) > 0


def test_without_worker_processes_tuning_goes_on_in_this_one() -> None:
    runner = DeviceRunner("emulated", workers=1)
    runner._pool = Workers(("/nonexistent/python",), 1, timeout=60.0)
    with pytest.warns(TuningNotice, match="one by one"):
        runner.prove([(PROBLEM, FIRST)], Budget())
    assert runner.is_proven(PROBLEM, FIRST)
    assert runner.prepare(PROBLEM, FIRST).verification.passed


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[metal::Device] Unable to build metal library from source\nerror: x", "compile"),
        ("Failed to compile kernel: error: identifier is undefined.", "compile"),
        ("an illegal memory access was encountered", "launch"),
    ],
)
def test_what_mlx_says_is_sorted_by_step(text: str, kind: str) -> None:
    assert registry.failure(RuntimeError(text)).kind == kind


@pytest.mark.parametrize("storage", ["tiles", "fragment"])
def test_an_adapted_example_is_that_of_the_other_config(storage: Storage) -> None:
    family = FAMILIES["attend"]
    problem = AttendProblem(64, 64, 3, 3, gqa=2, codebook="cubic", storage=storage, kv_heads=2)
    first, *others = candidates(family, problem)
    example = family.example(problem, np.random.default_rng(1), 2000, first)
    assert family.adapt is not None
    for config in others[::9]:
        expected = family.example(problem, np.random.default_rng(1), 2000, config)
        adapted = family.adapt(problem, example, config)
        assert adapted.scalars == expected.scalars
        for name, array in expected.inputs.items():
            np.testing.assert_array_equal(adapted.inputs[name], array)


def test_what_is_timed_with_a_candidate_is_proven_with_it() -> None:
    problem = AttendProblem(64, 64, 4, 3, codebook="mixed", storage="fragment")
    found = dict(companions_of(problem))
    assert [family_of(p) for p in found] == ["combine", "dequantize", "dequantize"]
    for each, config in found.items():
        registry.verify(registry.compile(each, config, "emulated"), tokens=64)
    one_side = list(companions_of(AttendProblem(64, 64, 16, 3)))
    assert [family_of(p) for p, _ in one_side] == ["combine", "dequantize"]
    assert not list(companions_of(EncodeProblem(64, 3)))
