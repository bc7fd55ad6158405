"""A problem's tuning task from what its kernel family declares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

from tqgen_kernels.codegen.family import Family
from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.buckets import tuned_as
from tqgen_kernels.tuning.search.roofline import relative_cost
from tqgen_kernels.tuning.search.runner import road
from tqgen_kernels.tuning.search.tuner import Task

RANKED_TOKENS = 1024  # enough to tell the geometries apart, few enough to lay out quickly


def task_of(problem: Problem, roads: Sequence[str] = ()) -> Task:
    """What to tune for `problem` in its bucket. Imports the families."""
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.render import template_hash
    from tqgen_kernels.codegen.space import space

    problem = tuned_as(problem)
    family = FAMILIES[family_of(problem)]
    return Task(
        problem=problem,
        space=space(family, problem),
        default=family.default(problem),
        template_sha256=template_hash(family.name),
        roads=tuple(road(name) for name in roads),
        rank=ranking(family, problem),
    )


def ranking(family: Family, problem: Problem) -> Callable[[Config], int]:
    """In how many tunables a candidate differs from the default, plus how many times twice its
    static cost is the default's: a search that is cut short has tried every value of every
    tunable, and last come launches that leave the device idle."""
    default = family.default(problem)

    @cache
    def cost(config: Config) -> float:
        return static_cost(family, problem, config)

    def rank(config: Config) -> int:
        changes = sum(default[name] != value for name, value in config.values)
        return changes + max(0, round(math.log2(cost(config) / cost(default))))

    return rank


def static_cost(family: Family, problem: Problem, config: Config) -> float:
    """relative_cost of the config's launch geometry on at most RANKED_TOKENS tokens."""
    import numpy as np

    tokens = min(problem.context, RANKED_TOKENS)
    example = family.example(problem, np.random.default_rng(0), tokens, config)
    shapes = {name: array.shape for name, array in example.inputs.items()}
    launch = family.launch(problem, config, shapes, example.scalars)
    return relative_cost(launch, family.threadgroup_memory(problem, config))
