from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from tqgen_kernels.quant.scheme import SCHEMES, Scheme

BAD = {
    "key_bits": ([0, 9, -1, 2.5, "4", True], "integer from 1 to 8"),
    "value_bits": ([0, 9, -1, 2.5, "4", False], "integer from 1 to 8"),
    "seed": ([-1, 2**31 - 1, 1.0, "42", None, True], r"0 to 2\*\*31 - 2"),
    "residual": ([-1, 4097, 64.0, "64", None, True], "0 to 4096 tokens"),
    "sinks": ([-1, 1025, 4.0, "4", None, False], "0 to 1024 tokens"),
    "codebook": (["best", "", 3, None], "lloyd-max, uniform, cubic"),
    "norm_correction": ([0, 1, None, "yes"], "True or False"),
    "centre": ([0, 1, None, "yes"], "True or False"),
    "guard": ([True, None, "", "On", 3], "off, warn, on"),
}


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [(field, value, allowed) for field, (values, allowed) in BAD.items() for value in values],
)
def test_a_bad_value_is_named_with_what_is_allowed(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed) as error:
        Scheme(**{field: value})
    assert field in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("bits", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_every_width_is_allowed_on_either_side(bits: int | None) -> None:
    assert Scheme(key_bits=bits).key_bits == bits
    assert Scheme(value_bits=bits).value_bits == bits


def test_limits_are_inclusive() -> None:
    Scheme(seed=0, residual=0, sinks=0)
    Scheme(seed=2**31 - 2, residual=4096, sinks=1024)


def test_keys_and_values_rotate_by_different_seeds_that_fit_an_int32() -> None:
    scheme = Scheme(seed=2**31 - 2)
    assert scheme.key_seed == 2**31 - 2
    assert scheme.value_seed == 2**31 - 1


def test_frozen_and_hashable() -> None:
    scheme = Scheme()
    assert hash(scheme) == hash(Scheme())
    with pytest.raises(FrozenInstanceError):
        scheme.seed = 1  # type: ignore[misc]


def test_of_takes_bits_for_both_sides() -> None:
    assert Scheme.of(3) == Scheme(key_bits=3, value_bits=3)
    assert Scheme.of(bits=8) == Scheme(key_bits=8, value_bits=8)


def test_of_takes_each_side_and_keeps_the_other_in_fp16() -> None:
    assert Scheme.of(key_bits=4, value_bits=2) == Scheme(key_bits=4, value_bits=2)
    assert Scheme.of(key_bits=4) == Scheme(key_bits=4, value_bits=None)
    assert Scheme.of(value_bits=2) == Scheme(key_bits=None, value_bits=2)


def test_of_takes_a_scheme_or_its_name() -> None:
    scheme = Scheme(key_bits=5, residual=32)
    assert Scheme.of(scheme=scheme) is scheme
    for name, named in SCHEMES.items():
        assert Scheme.of(scheme=name) == named


def test_of_nothing_is_the_default_which_has_a_name() -> None:
    assert Scheme.of() == Scheme() == SCHEMES["balanced"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"bits": 3, "key_bits": 3},
        {"bits": 3, "value_bits": 3},
        {"bits": 3, "scheme": "small"},
        {"key_bits": 3, "scheme": Scheme()},
        {"bits": 3, "key_bits": 3, "scheme": "small"},
    ],
)
def test_of_refuses_a_mixture(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"one of bits=, key_bits= and value_bits=, or scheme="):
        Scheme.of(**arguments)


@pytest.mark.parametrize("name", ["bigger", "", 3, ["small"]])
def test_an_unknown_name_lists_the_known_ones(name: Any) -> None:
    with pytest.raises(ValueError, match="near-lossless, balanced, small, tiny") as error:
        Scheme.of(scheme=name)
    assert repr(name) in str(error.value)


def test_of_checks_what_it_is_given() -> None:
    with pytest.raises(ValueError, match="bits 9"):
        Scheme.of(9)
