from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import typer

from tqgen_kernels.cli.verify import verify
from tqgen_kernels.codegen.bundled import bundled_problems
from tqgen_kernels.codegen.problem import AttendProblem
from tqgen_kernels.execution import verification


@pytest.mark.parametrize(
    ("quick", "head_dim", "expected"),
    [(True, None, (128,)), (True, [64], (64,)), (False, None, verification.HEAD_DIMS)],
)
def test_quick_is_one_head_dim(
    quick: bool,
    head_dim: list[int] | None,
    expected: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, ...]] = []

    def verify_all(dims: Sequence[int], name: str, **options: Any) -> list[Any]:
        asked.append(tuple(dims))
        return []

    monkeypatch.setattr(verification, "verify_all", verify_all)
    verify(backend="emulated", head_dim=head_dim, every=0, quick=quick, as_json=True)
    assert asked == [tuple(expected)]


def test_long_is_attention_over_a_million_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, int]] = []

    def verify_one(problem: Any, config: Any, name: str, tokens: int) -> verification.Outcome:
        asked.append((problem.storage, tokens))
        return verification.Outcome(problem, config, None, "not run")

    monkeypatch.setattr(verification, "verify_one", verify_one)
    with pytest.raises(typer.Exit):  # an outcome that is none is a failure
        verify(backend="emulated", every=0, long=True, as_json=True)
    assert {storage for storage, _ in asked} == {"tiles", "fragment"}
    assert {tokens for _, tokens in asked} == {1_000_003}


def test_bundled_problems_are_run_once_a_text_on_the_emulator() -> None:
    (problem,) = (
        p for p in verification.table((256,), bundled=True)
        if isinstance(p, AttendProblem) and p.storage == "fragment" and p.value_bits == 2
    )  # fmt: skip
    told_apart = verification.chosen_configs(problem, 1, "emulated")
    every_one = verification.chosen_configs(problem, 1, "cuda")
    assert told_apart[0] == every_one[0]
    assert len(told_apart) < len(every_one)
    texts = [{**c.mapping, "groups": 0, "resident": 0} for c in told_apart]
    assert all(texts.count(text) == 1 for text in texts)
    assert all({**c.mapping, "groups": 0, "resident": 0} in texts for c in every_one)
    assert len(verification.table(verification.HEAD_DIMS, bundled=True)) == len(bundled_problems())
