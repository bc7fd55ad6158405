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
    """
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.render import render, template_hash
    from tqgen_kernels.codegen.space import check_config

    if result.road is not None:
        return None if result.road in roads else f"there is no road named {result.road!r}"
    family = family_of(problem)
    if record.template_sha256 != template_hash(family):
        return "measured with other templates"
    config: Config = result.key
    try:
        measured = render(record.parsed_problem, config)
        check_config(FAMILIES[family], problem, config)
    except ValueError as error:
        return f"its config is not in the space: {error}"
    if measured.sha256 != result.source_sha256:
        return "the text that was measured is not the text that renders now"
    return None
