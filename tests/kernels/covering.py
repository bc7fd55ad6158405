"""Few configs in which every two values of two tunables meet."""

import itertools
from collections.abc import Sequence

from tqgen_kernels.codegen.variant import Config, Value

Pair = tuple[tuple[str, Value], tuple[str, Value]]


def pairs_of(config: Config) -> set[Pair]:
    return set(itertools.combinations(config.values, 2))


def covering(configs: Sequence[Config]) -> list[Config]:
    """Of `configs`, some that have between them every pair that is in any of them: one at a time,
    the one that brings most of what is missing."""
    missing = set[Pair]().union(*map(pairs_of, configs))
    chosen = []
    while missing:
        best = max(configs, key=lambda config: len(pairs_of(config) & missing))
        chosen.append(best)
        missing -= pairs_of(best)
    return chosen
