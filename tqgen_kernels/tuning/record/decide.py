"""The winner, from samples alone: two runs on one device choose alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqgen_kernels.tuning.record.record import Result


RULE = "median-band/1"  # of this module: a record of another one is decided anew from its samples
MOST_NOISE = 0.25
# Roads that read another cache than ours: measured beside, for comparison, never chosen.
# "fp16": MLX's attention over keys and values as the model made them; "affine": mlx-lm's
# quantised attention (mx.quantized_matmul), over MLX's own storage.
BASELINES = ("fp16", "affine")


@dataclass(frozen=True)
class Decision:
    """The chosen result and the relative band around the fastest within which it lies."""

    result: Result | None
    noise: float


def spread(samples: Sequence[float]) -> float:
    """Standard error of the median, relative to it: robust, from the median absolute deviation.

    1.4826 MAD estimates the standard deviation of normal samples, 1.2533 / sqrt(n) of it is the
    standard error of their median.
    """
    middle = median(samples)
    deviation = 1.4826 * median(abs(s - middle) for s in samples)
    return float(1.2533 * deviation / len(samples) ** 0.5 / middle)


def band(a: Sequence[float], b: Sequence[float], tolerance: float) -> float:
    """How far apart two medians may be and still count as equal, relative: three standard errors
    of their difference (the fastest of several is partly lucky), at least `tolerance`, and at
    most MOST_NOISE, since noise is no reason to run something far slower."""
    return max(tolerance, min(MOST_NOISE, 3.0 * float((spread(a) ** 2 + spread(b) ** 2) ** 0.5)))


def decide(results: Sequence[Result], tolerance: float, *, roads: bool = True) -> Decision:
    """The earliest-declared correct candidate that is as fast as the fastest.

    Where some were in the final, only those compete. `roads` false leaves out what is no kernel
    of ours. BASELINES never compete.
    """
    valid = [r for r in results if r.outcome == "correct" and r.timed]
    valid = [r for r in valid if r.road not in BASELINES]
    valid = [r for r in valid if roads or r.road is None]
    pool = [r for r in valid if r.final_samples] or valid
    if not pool:
        return Decision(None, 0.0)
    fastest = min(pool, key=lambda r: (median(r.timed), r.index))
    best = median(fastest.timed)
    for r in sorted(pool, key=lambda r: r.index):
        noise = band(fastest.timed, r.timed, tolerance)
        if median(r.timed) <= best * (1.0 + noise):
            return Decision(r, noise)
    return Decision(fastest, tolerance)
