"""The hard inputs of the ordinary suite, as one more example a problem."""

from __future__ import annotations

from typing import Any

import numpy as np

from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import AttendProblem, CombineProblem, EncodeProblem, Problem


def hard_examples(problem: Problem, example: Example) -> list[Example]:
    """What `example` becomes: vectors that are not finite, one split, a full window, far scores."""
    if isinstance(problem, EncodeProblem):
        return [_changed(example, x=_hard_vectors(example.inputs["x"], problem.dtype))]
    if isinstance(problem, AttendProblem):
        # Half precision keeps fewer digits of a score: it may not be as far from the others.
        return [
            _one_split(example, 1),
            _one_split(example, 25 if problem.dtype == "float32" else 6),
            *(_rising(example, silent) for silent in (0, 1)),
            *([_outlying(example)] if problem.dtype == "float32" else []),
        ]
    if isinstance(problem, CombineProblem):
        statistics = example.inputs["statistics"].copy()
        statistics[:, -1, 0] += 300.0  # the exact window outweighs every split
        return [_changed(example, statistics=statistics)]
    return []


def _changed(example: Example, scalars: dict[str, int] | None = None, **inputs: Any) -> Example:
    return Example(
        {**example.inputs, **inputs}, {**example.scalars, **(scalars or {})}, example.casts
    )


def _hard_vectors(x: Any, dtype: str) -> Any:
    """Tokens 3 to 10: a NaN or an infinity somewhere, huge, tiny, equal, one large, all zero."""
    x = x.copy()
    huge, tiny = (1e4, 1e-4) if dtype == "float16" else (1e30, 1e-30)
    x[..., 3, 0] = np.nan
    x[..., 4, -1] = np.inf
    x[..., 5, 33] = -np.inf
    x[..., 6, :] *= huge / np.abs(x[..., 6, :]).max()
    x[..., 7, :] *= tiny
    x[..., 8, :] = 0.5
    x[..., 9, 1] = 1e4
    x[..., 10, :] = 0
    return x


def _one_split(example: Example, length: int) -> Example:
    """Every tile in one split, so that a SIMD group takes several; a full exact window.

    length: of the queries. At 25 exp2 overflows unless the largest score is subtracted first.
    """
    tiles, exact = example.scalars["tiles"], example.scalars["exact"]
    params = example.inputs["params"].copy()
    params[2], params[4], params[6] = tiles, exact, 1
    return _changed(
        example,
        {"splits": 1},
        params=params,
        queries=example.inputs["queries"] * length,
        exact_keys=np.ascontiguousarray(example.inputs["exact_keys"][:, :, :exact]),
        exact_values=np.ascontiguousarray(example.inputs["exact_values"][:, :, :exact]),
    )


def _outlying(example: Example) -> Example:
    """Two exact keys score so high that exp2 overflows unless just they are subtracted.

    One is the first of four that are taken together, the other the third of the next four.
    """
    one = _one_split(example, 1)
    keys = one.inputs["exact_keys"].copy()
    queries = one.inputs["queries"]
    group = queries.shape[1] // keys.shape[1]
    for place, length in ((0, 30), (6, 90)):
        if place < keys.shape[2]:
            keys[:, :, place] = length * queries[:, ::group, 0]
    return _changed(one, exact_keys=keys)


def _rising(example: Example, silent: int) -> Example:
    """Every tile scores higher than those before, and only in every second row of queries.

    silent: 0 or 1, the first row whose scores are all 0. Each of the two columns that a lane of the
    matrix unit has must ask on its own that the sums so far are scaled down.
    """
    one = _one_split(example, 1)
    queries = one.inputs["queries"].copy()
    queries.reshape(-1, queries.shape[-1])[silent::2] = 0
    scales = one.inputs["key_scales"]
    step = np.arange(1, scales.shape[2] + 1, dtype=scales.dtype)[:, None]
    return _changed(one, queries=queries, key_scales=scales * step * step)
