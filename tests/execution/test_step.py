"""The two launches of a decode step as one call, compiled by MLX as a GPU has it or not."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import pytest

from tqgen_kernels.execution.kernels import _step


def attend(inputs: Sequence[mx.array]) -> list[mx.array]:
    """Partials and statistics that tell every input's place, and windows where tokens are fresh."""
    weighed = sum((i + 1) * x.sum() for i, x in enumerate(inputs))
    windows = [x + 1 for x in inputs[-2:]] if len(inputs) == 12 else []
    return [mx.full((2,), weighed), mx.full((2,), -weighed), *windows]


def combine(inputs: Sequence[mx.array]) -> list[mx.array]:
    return [mx.stack([x.sum() for x in inputs])]


@pytest.mark.parametrize("sinks", [0, 1])
@pytest.mark.parametrize("extras", [0, 1, 2])
def test_each_array_goes_to_its_place(extras: int, sinks: int) -> None:
    q, *store, params = (mx.array([2.0**i]) for i in range(9))
    extra = [mx.array([float(3 + i)]) for i in range(extras)]
    logits = [mx.array([7.0])] * sinks
    key_signs, value_signs = mx.array([11.0]), mx.array([13.0])
    parts = attend([q, *store, key_signs, params, *extra])
    sunk = [*logits, q, store[-1]] if sinks else []
    expected = [*combine([*parts[:2], value_signs, params, *sunk]), *parts[2:]]
    step = _step(attend, combine, key_signs, value_signs, extras, len(store))
    for run in (step, mx.compile(step)):
        found = run(q, *store, params, *extra, *logits)
        assert len(found) == len(expected) == (3 if extras == 2 else 1)
        assert all(mx.array_equal(a, b) for a, b in zip(found, expected, strict=True))
