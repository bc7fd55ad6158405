"""Where bits go."""

from __future__ import annotations

import itertools
import math

import pytest

from tqgen_kernels.quality.allocation import LEAST, SIDES, Cost, allocate


def costs(*sizes: tuple[float, float], dims: tuple[int, int] = (64, 64)) -> list[Cost]:
    """Layers with these KL of keys and values at 2 bits, a fifth of it with each bit more."""
    return [
        Cost(layer, side, 2 * dim, 2, {2: kl, 4: kl / 25})
        for layer, pair in enumerate(sizes)
        for side, kl, dim in zip(SIDES, pair, dims, strict=True)
    ]


def test_between_and_beyond_what_was_measured_it_is_geometric() -> None:
    cost = Cost(0, "key", 64, 1, {2: 0.4, 4: 0.004})
    assert cost.at(2) == 0.4
    assert [cost.at(bits) for bits in (1, 3, 5)] == pytest.approx([4, 0.04, 0.0004])
    assert Cost(0, "key", 64, 1, {2: 0.0, 4: 0.0}).at(3) < 1e-9


def test_equal_layers_share_the_budget() -> None:
    found = allocate(costs((1, 1), (1, 1)), 4.25)
    assert found.bits == [(4, 4), (4, 4)]
    assert found.bits_per_value == 4.25
    assert found.kl == pytest.approx(4 / 25)


def test_keys_that_cost_25_times_as_much_get_two_bits_more() -> None:
    assert allocate(costs((25, 1), (25, 1)), 3.25).bits == [(4, 2), (4, 2)]
    assert allocate(costs((25, 1), (1, 25)), 3.25).bits == [(4, 2), (2, 4)]


def test_no_spending_within_the_budget_is_better() -> None:
    layers = costs((0.3, 0.02), (0.07, 0.05), dims=(64, 64))
    ranges = [range(LEAST["key"], 8), range(LEAST["value"], 8)] * 2
    for budget in (2.3, 2.75, 3.0, 3.4, 4.6):
        found = allocate(layers, budget)
        best = min(
            math.fsum(cost.at(b) for cost, b in zip(layers, bits, strict=True))
            for bits in itertools.product(*ranges)
            if sum(bits) / 4 + 0.25 <= budget + 1e-9
        )
        assert found.kl == pytest.approx(best)
        assert budget - 0.25 < found.bits_per_value <= budget


def test_unequal_sides_weigh_by_their_size() -> None:
    found = allocate(costs((1, 1), dims=(128, 64)), 3.6)
    spent = sum(b * d for b, d in zip(found.bits[0], (128, 64), strict=True)) / 192 + 2 * 16 / 192
    assert found.bits_per_value == pytest.approx(spent)
    assert spent <= 3.6
    assert found.bits[0][1] > found.bits[0][0]  # a bit for the small side is cheap


@pytest.mark.parametrize("budget", [1.7, 0.0, -3.0, 8.3, float("nan")])
def test_a_budget_that_cannot_be_is_an_error_with_the_range(budget: float) -> None:
    with pytest.raises(ValueError, match=r"give 1\.75 to 8\.25"):
        allocate(costs((1, 1)), budget)
    assert allocate(costs((1, 1)), 1.75).bits == [(2, 1)]
    assert allocate(costs((1, 1)), 8.25).bits == [(8, 8)]
