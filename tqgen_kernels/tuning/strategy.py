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
    """Spends trials. What always races (the default, the roads) was tried before."""

    @property
    def name(self) -> str: ...

    def search(self, configs: Sequence[Config], trial: Trial, samples: int) -> None:
        """`configs` are the rest, the most promising first; `samples` is phase 1's full count."""
        ...


@dataclass(frozen=True)
class Exhaustive:
    """Every candidate, fully."""

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
        drawn = random.Random(self.seed).sample(list(configs), min(self.count, len(configs)))
        for config in drawn:
            trial(config, samples)


_ALL: tuple[Strategy, ...] = (Exhaustive(), SuccessiveHalving(), RandomSearch())
STRATEGIES: dict[str, Strategy] = {s.name: s for s in _ALL}


def strategy(name: str) -> Strategy:
    """A strategy by name. Raises ValueError that names them all."""
    if name not in STRATEGIES:
        raise ValueError(f"strategy {name!r} is unknown: use one of {', '.join(STRATEGIES)}.")
    return STRATEGIES[name]
