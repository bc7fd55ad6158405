"""Whether what a record says about a config is still true of this version's text."""

from __future__ import annotations

from collections.abc import Sequence

from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.record import Record, Result

ROADS = ("mlx", "sdpa")


def validate(
    problem: Problem, record: Record, result: Result, *, roads: Sequence[str] = ROADS
) -> str | None:
    """Why `result` must not be used for `problem`; None if it may be.

    A record holds values of tunables only. The text is rendered anew and must have the hash that
    was measured; the config must lie in today's space of the record's problem and of `problem`.
    So must the text of the default that it was measured against. Other texts may have changed:
    the winner is still faster than the default.
    """
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.render import render
    from tqgen_kernels.codegen.space import check_config

    if result.road is not None:
        return None if result.road in roads else f"there is no road named {result.road!r}"
    family, measured = FAMILIES[family_of(problem)], record.parsed_problem
    config: Config = result.key
    try:
        text = render(measured, config)
        check_config(family, problem, config)
    except ValueError as error:
        return f"its config is not in the space: {error}"
    if text.sha256 != result.source_sha256:
        return "the text that was measured is not the text that renders now"
    default = record.result(family.default(measured))
    if default is None or default.outcome != "correct" or default.key == config:
        return None
    if render(measured, default.key).sha256 != default.source_sha256:
        return "the default that it was measured against has another text now"
    return None
