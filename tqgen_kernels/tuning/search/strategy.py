"""In what order, and how thoroughly, candidates are tried."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tqgen_kernels.codegen.variant import Config

# Measures a config until it has so many samples; their median, or None where it is invalid.
Trial = Callable[[Config, int], float | None]


class Strategy(Protocol):
    """Spends trials. The default, which is first, and the roads were tried before."""

    @property
    def name(self) -> str: ...

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        """`configs`: the default, then the most promising first. samples: phase 1's full count."""
        ...


@dataclass(frozen=True)
class Guided:
    """Every candidate, fully, but next always one that differs from the fastest so far in a single
    tunable, as long as there is one: a search that is cut short has followed the slope."""

    name: str = "guided"

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        best, fastest = configs[0], trial(configs[0], samples)
        left = list(configs[1:])
        while left:
            config = next((c for c in left if _changes(best, c) == 1), left[0])
            left.remove(config)
            seconds = trial(config, samples)
            if seconds is not None and (fastest is None or seconds < fastest):
                best, fastest = config, seconds


def _changes(a: Config, b: Config) -> int:
    return sum(x != y for x, y in zip(a.values, b.values, strict=True))


@dataclass(frozen=True)
class Exhaustive:
    """Every candidate, fully, in order."""

    name: str = "exhaustive"

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        for config in configs:
            trial(config, samples)


@dataclass(frozen=True)
class SuccessiveHalving:
    """Every candidate once; the faster half twice as often, and so on (Jamieson and Talwalkar,
    Non-stochastic Best Arm Identification, 2016)."""

    name: str = "halving"

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        place = {config: i for i, config in enumerate(configs)}
        alive, count = list(configs), 1
        while alive:
            timed = [(trial(config, count), config) for config in alive]
            if count >= samples:
                return
            ranked = sorted((t, place[c], c) for t, c in timed if t is not None)
            alive = [c for _, _, c in ranked[: (len(ranked) + 1) // 2]]
            count = min(samples, 2 * count)


@dataclass(frozen=True)
class RandomSearch:
    """So many candidates, drawn with a fixed seed."""

    count: int = 32
    seed: int = 0
    name: str = "random"

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        others = list(configs[1:])
        for config in random.Random(self.seed).sample(others, min(self.count, len(others))):
            trial(config, samples)


_ALL: tuple[Strategy, ...] = (Guided(), Exhaustive(), SuccessiveHalving(), RandomSearch())
STRATEGIES: dict[str, Strategy] = {s.name: s for s in _ALL}


def strategy(name: str) -> Strategy:
    """A strategy by name. Raises ValueError that names them all."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown: use one of {', '.join(STRATEGIES)}.")
    return STRATEGIES[name]
