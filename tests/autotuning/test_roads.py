"""The ways without a kernel of ours: right, raced, and run where they won."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from msgspec.structs import replace as change

from tqgen_kernels.autotuning import autotune, roads, stock
from tqgen_kernels.autotuning.runner import DeviceRunner
from tqgen_kernels.backends.compiled import example_arrays
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import AttendProblem, CombineProblem, DequantizeProblem
from tqgen_kernels.execution import kernels, operations, registry
from tqgen_kernels.tuning.database.folder import user_database
from tqgen_kernels.tuning.record.decide import BASELINES, decide
from tqgen_kernels.tuning.record.record import Result
from tqgen_kernels.tuning.search.runner import InvalidVariant, road

TILES = AttendProblem(64, 64, 3, 2, gqa=2, dtype="float32", kv_heads=2, context=1024)
FRAGMENT = replace(TILES, codebook="cubic", storage="fragment", q_len=4, dtype="bfloat16")


def test_every_problem_races_against_what_a_user_has_without_us() -> None:
    assert roads.roads_of(TILES) == ("mlx", "sdpa", "fp16", "affine")
    assert roads.roads_of(DequantizeProblem(64, 3)) == ("mlx",)
    assert roads.roads_of(CombineProblem(64)) == ()


@pytest.mark.parametrize("problem", [TILES, FRAGMENT, replace(TILES, dtype="float16", batch=2)])
@pytest.mark.parametrize("name", ["mlx", "sdpa", *BASELINES])
def test_each_road_is_right_and_can_be_timed(problem: AttendProblem, name: str) -> None:
    prepared = DeviceRunner("emulated").prepare(problem, road(name))
    assert prepared.verification.passed, prepared.verification
    assert prepared.source_sha256 == ""
    assert prepared.launch(1) > 0


@pytest.mark.parametrize("mask", ["boolean", "additive"])
def test_the_roads_of_a_masked_problem_obey_the_mask(mask: Any) -> None:
    problem = replace(TILES, mask=mask, batch=2, q_len=2)
    runner = DeviceRunner("emulated")
    assert roads.roads_of(problem) == ("sdpa", "fp16", "affine")
    for name in roads.roads_of(problem):
        assert runner.prepare(problem, road(name)).verification.passed
    with pytest.raises(InvalidVariant, match="reads no mask") as refused:
        runner.prepare(problem, road("mlx"))
    assert refused.value.kind == "constraints"

    example = FAMILIES["attend"].example(problem, np.random.default_rng(3), 256)
    inputs = example_arrays(example)
    (blind,) = roads.run("sdpa", replace(problem, mask="none"), inputs | {"mask": None}, example)
    assert not roads.verify(problem, example, [blind]).passed


def test_a_baseline_reads_what_its_cache_would_hold() -> None:
    plain = stock.nbytes(stock.inputs("fp16", replace(TILES, dtype="float16"), 256))
    assert plain == 2 * 256 * 2 * 64 * 2  # keys and values, heads, head_dim, bytes
    affine = stock.nbytes(stock.inputs("affine", replace(TILES, dtype="float16"), 256))
    assert affine == plain * (3 / 16 + 4 / 128)  # 3 bits, and a scale and a bias for 64


def test_baselines_are_never_chosen() -> None:
    def result(name: str, index: int, seconds: float) -> Result:
        samples = (seconds,) * 5
        return Result({"road": name}, index, "correct", samples=samples, error=0.0, tolerance=1.0)

    results = [result("mlx", 1, 3e-3), result("sdpa", 2, 2e-3), result("fp16", 3, 1e-3)]
    chosen = decide(results, 0.02).result
    assert chosen is not None
    assert chosen.road == "sdpa"
    assert decide(results[2:], 0.02).result is None


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TQGEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TQGEN_BACKEND", "emulated")
    kernels.forget()
    yield
    kernels.forget()


def test_a_step_that_writes_its_token_runs_what_was_tuned_without(device: None) -> None:
    step = replace(TILES, fresh=True)
    (record,) = autotune([step], seconds=0.0)
    assert record.parsed_problem == TILES
    found = registry.kernel(step)
    assert found.choice.origin == "exact record"
    assert found.compiled is not None
    assert found.compiled.variant.problem == step


def test_where_dequantising_won_the_cache_dequantises(
    device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = FRAGMENT
    (record,) = autotune([problem], seconds=0.0)  # the default alone
    found = DeviceRunner("emulated").prepare(problem, road("sdpa")).verification
    won = Result(
        {"road": "sdpa"},
        index=10_000,
        outcome="correct",
        samples=(1e-9,),
        error=found.error,
        tolerance=found.tolerance,
    )
    kept = tuple(change(r, final_samples=()) for r in record.results)
    record = change(record, results=(*kept, won), selected=won.config)
    user_database().save(record, anew=True)
    kernels.forget()
    assert registry.kernel(problem).choice.road == "sdpa"

    example = FAMILIES["attend"].example(problem, np.random.default_rng(3), 300)
    inputs = example_arrays(example)
    store = roads.packed(problem, inputs, example)
    calls: list[int] = []
    dequantized = operations.attend_dequantized

    def counted(*arguments: object, **named: object) -> mx.array:
        calls.append(1)
        return dequantized(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(operations, "attend_dequantized", counted)
    out = operations.attend(inputs["queries"], store, scale=problem.key_dim**-0.5)
    assert calls == [1]
    assert roads.verify(problem, example, [out]).passed
