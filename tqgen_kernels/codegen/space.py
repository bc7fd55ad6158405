"""The candidates of a problem, and why the others are none."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from tqgen_kernels.codegen.family import Family
from tqgen_kernels.codegen.variant import Config

MAX_THREADGROUP_MEMORY = 32 * 1024  # bytes, Metal on every Apple GPU
MAX_THREADS = 1024


@dataclass(frozen=True)
class Candidate:
    """One point of the space; `removed_by` names the first restriction that it breaks."""

    config: Config
    removed_by: str | None = None


def _removed_by(family: Family, problem: Any, config: Config) -> str | None:
    for restriction in family.restrictions:
        if not restriction.allows(problem, config):
            return restriction.reason
    memory = family.threadgroup_memory(problem, config)
    if memory > MAX_THREADGROUP_MEMORY:
        return f"{memory} bytes of threadgroup memory, at most {MAX_THREADGROUP_MEMORY}"
    return None


def space(family: Family, problem: Any) -> tuple[Candidate, ...]:
    """Every point of the space in declared order, the removed ones with their reason."""
    axes = [[(t.name, value) for value in t.values] for t in family.tunables(problem)]
    configs = [Config(values) for values in product(*axes)]
    return tuple(Candidate(c, _removed_by(family, problem, c)) for c in configs)


def candidates(family: Family, problem: Any) -> tuple[Config, ...]:
    """The configs that may be rendered, the declared default first."""
    allowed = [c.config for c in space(family, problem) if c.removed_by is None]
    default = family.default(problem)
    return (default, *(c for c in allowed if c != default))


def check_config(family: Family, problem: Any, config: Config) -> None:
    """Raises ValueError unless `config` is a candidate of `problem`."""
    tunables = family.tunables(problem)
    names = tuple(t.name for t in tunables)
    if tuple(name for name, _ in config.values) != names:
        raise ValueError(f"{family.name} has the tunables {', '.join(names)}, not: {config}.")
    for tunable in tunables:
        value = config[tunable.name]
        if not any(type(value) is type(v) and value == v for v in tunable.values):
            allowed = ", ".join(str(v) for v in tunable.values)
            raise ValueError(f"{tunable.name}={value!r} is not in the space: use {allowed}.")
    reason = _removed_by(family, problem, config)
    if reason is not None:
        raise ValueError(f"{config} is no candidate of this {family.name} problem: {reason}.")
