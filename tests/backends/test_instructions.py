"""Instructions per coordinate of variants."""

import pytest

from tqgen_kernels.backends import instructions
from tqgen_kernels.backends.instructions import is_counted, per_coordinate
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    Problem,
    family_of,
)
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config, Variant


def default(problem: Problem) -> Variant:
    return render(problem, FAMILIES[family_of(problem)].default(problem))


def test_more_lanes_shuffle_more() -> None:
    problem = DequantizeProblem(64, 3)
    found = [
        per_coordinate(render(problem, Config.of(lanes=lanes, at_once=32))) for lanes in (1, 2, 4)
    ]
    simd = [round(count.simd) for count in found if count]
    assert simd == [0, 1, 2]  # a shuffle a coordinate and doubling of the lanes
    for count in filter(None, found):
        assert count.floating > 6  # the butterflies of 64 coordinates
        assert count.total == count.integer + count.floating + count.memory + count.simd


def test_matrix_units_take_fewer_instructions_than_lanes() -> None:
    counts = []
    for storage in ("tiles", "fragment"):
        problem = AttendProblem(64, 64, 3, 3, gqa=4, codebook="cubic", storage=storage)  # type: ignore[arg-type]
        count = per_coordinate(default(problem))
        assert count is not None
        counts.append(count.total)
    assert 1 < counts[1] < counts[0]


def test_a_count_is_kept_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = default(DequantizeProblem(64, 3))
    first = per_coordinate(variant)

    def fail(*_: object) -> None:
        raise AssertionError("counted again")

    monkeypatch.setattr(instructions, "_count", fail)
    assert per_coordinate(variant) == first


def test_the_count_does_not_depend_on_the_size_of_the_problem() -> None:
    small, large = (
        DequantizeProblem(64, 3, kv_heads=h, context=c) for h, c in ((1, 64), (8, 4096))
    )
    assert instructions._count(default(small), 1) == instructions._count(default(large), 1)


def test_partial_results_have_no_coordinates() -> None:
    assert not is_counted(CombineProblem(64))
    assert per_coordinate(default(CombineProblem(64))) is None
