"""How long tuning may take."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_RESERVED = 0.3
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class OutOfTime(Exception):
    """The budget is spent."""


@dataclass
class Budget:
    """Counts from its creation. seconds None: no limit.

    reserve: seconds that may not be spent yet; at most MOST_RESERVED of the whole is held back.
    """

    seconds: float | None = None
    clock: Callable[[], float] = time.monotonic
    reserve: float = 0.0
    start: float = field(init=False)

    def __post_init__(self) -> None:
        if self.seconds is not None and not self.seconds >= 0:
            raise ValueError(f"A budget of {self.seconds} seconds is none: give 0 or more.")
        self.start = self.clock()

    @property
    def left(self) -> float | None:
        """Seconds of the whole budget; None without a limit."""
        if self.seconds is None:
            return None
        return max(0.0, self.seconds - (self.clock() - self.start))

    @property
    def spent(self) -> bool:
        return self._free <= 0

    def check(self, need: float = 0.0) -> None:
        """Raises OutOfTime when less than `need` seconds of what may be spent now are left."""
        if self._free <= need:
            raise OutOfTime

    @property
    def _free(self) -> float:
        if self.seconds is None:
            return float("inf")
        reserve = min(self.reserve, MOST_RESERVED * self.seconds)
        return self.seconds - reserve - (self.clock() - self.start)


def parse_seconds(text: str) -> float:
    """Seconds of "90", "90s", "1.5m" or "1h". Raises ValueError."""
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*(s|m|min|h|)\s*", text)
    if not found:
        raise ValueError(
            f"{text!r} is no time: give seconds, or a number with s, m or h (90s, 2m)."
        )
    return float(found.group(1)) * _UNITS[found.group(2)]
