"""Samples of candidates: seconds per launch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tqgen_kernels.tuning.record.policy import Policy
from tqgen_kernels.tuning.search.runner import InvalidVariant

Launch = Callable[[int], float]
Key = TypeVar("Key")


class Failed(Exception):
    """One of several candidates failed while they were timed in turn."""

    def __init__(self, key: Any, error: InvalidVariant) -> None:
        super().__init__(str(error))
        self.key = key
        self.error = error


def checked(launch: Launch, launches: int) -> float:
    """Seconds per launch of one sample, to 6 digits. Raises InvalidVariant for a time that cannot
    be one."""
    seconds = launch(launches)
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidVariant("launch", f"{launches} launches took {seconds} seconds")
    return float(f"{seconds / launches:.6g}")


def launches_for(seconds: float, policy: Policy) -> int:
    """So many launches that a sample lasts about policy.sample_seconds.

    All candidates' samples last alike, so that the cost of an evaluation is the same share of
    each and their ratios stay right.
    """
    return max(1, min(policy.max_launches, math.ceil(policy.sample_seconds / seconds)))


def calibrate(launch: Launch, policy: Policy) -> tuple[int, float]:
    """Launches per sample, and the seconds per launch they come from. The first run warms up."""
    checked(launch, 1)
    once = checked(launch, 1)
    launches = launches_for(once, policy)
    if launches > 1:  # one launch alone is mostly the cost of an evaluation
        once = checked(launch, launches)
        launches = launches_for(once, policy)
    return launches, once


def there_and_back(runs: Mapping[Key, tuple[Launch, int]]) -> dict[Key, tuple[float, float]]:
    """Two samples of each, in the order A B C C B A: drift falls on all alike.

    Before each sample one launch is thrown away, since the one before it left the caches and
    clocks of another candidate. Raises Failed with the key of one that cannot be timed.
    """
    samples: dict[Key, list[float]] = {key: [] for key in runs}
    for key in [*runs, *reversed(list(runs))]:
        launch, launches = runs[key]
        try:
            checked(launch, 1)
            samples[key].append(checked(launch, launches))
        except InvalidVariant as error:
            raise Failed(key, error) from error
        except RuntimeError as error:
            raise Failed(key, InvalidVariant("launch", str(error))) from error
    return {key: (first, second) for key, (first, second) in samples.items()}
