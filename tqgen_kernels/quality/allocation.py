"""Bits for each layer's keys and values: as little harm as a budget allows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SideName = Literal["key", "value"]
SIDES: tuple[SideName, SideName] = ("key", "value")
LEAST = {"key": 2, "value": 1}  # 1-bit keys break the models that were measured
MOST = 8
SCALE_BITS = 16  # of each vector


@dataclass(frozen=True)
class Cost:
    """KL(model || model with only this side of this layer quantised), nats, at some bits.

    layer: its place among the layers that are compressed. values: how many of them a token has.
    vectors: their number a token (the kv_heads). kl: bits -> KL, at least two.
    """

    layer: int
    side: SideName
    values: int
    vectors: int
    kl: Mapping[int, float]

    def at(self, bits: int) -> float:
        """KL at any number of bits: a geometric sequence through the nearest two measured ones."""
        if bits in self.kl:
            return self.kl[bits]
        known = sorted(self.kl)
        low, high = sorted(sorted(known, key=lambda b: (abs(b - bits), b))[:2])
        a, b = (math.log(max(self.kl[n], 1e-12)) for n in (low, high))
        return math.exp(a + (b - a) * (bits - low) / (high - low))


@dataclass(frozen=True)
class Allocation:
    """bits: (key bits, value bits) of each layer. bits_per_value: spent, scales included. kl: the
    sum of the layers' costs, which the model's own may exceed where errors meet."""

    bits: list[tuple[int, int]]
    bits_per_value: float
    kl: float


def allocate(costs: Sequence[Cost], bits_per_value: float) -> Allocation:
    """Spend bits_per_value, the mean over all values with their scales, where it does most good.

    From the least bits on, the next bit always goes to the side whose KL it lowers most per bit of
    memory, which for convex costs is the best spending there is. costs: both sides of layers 0 to
    n - 1. Raises ValueError for a budget below the least or above 8 bits a value.
    """
    values = sum(cost.values for cost in costs)
    scales = SCALE_BITS * sum(cost.vectors for cost in costs) / values
    least = scales + sum(LEAST[cost.side] * cost.values for cost in costs) / values
    if not least <= bits_per_value <= MOST + scales:
        raise ValueError(
            f"bits_per_value {bits_per_value:g} is not possible here: give {least:.3g} to "
            f"{MOST + scales:.4g}. Scales take {scales:.3g} of them."
        )
    bits = {(cost.layer, cost.side): LEAST[cost.side] for cost in costs}
    left = round((bits_per_value - least) * values, 6)
    while True:
        gains = [
            ((cost.at(now) - cost.at(now + 1)) / cost.values, -i)
            for i, cost in enumerate(costs)
            if (now := bits[cost.layer, cost.side]) < MOST and cost.values <= left
        ]
        if not gains:
            break
        cost = costs[-max(gains)[1]]
        bits[cost.layer, cost.side] += 1
        left -= cost.values
    layers = sorted({cost.layer for cost in costs})
    return Allocation(
        [(bits[layer, "key"], bits[layer, "value"]) for layer in layers],
        bits_per_value - left / values,
        math.fsum(cost.at(bits[cost.layer, cost.side]) for cost in costs),
    )
