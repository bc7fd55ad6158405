from __future__ import annotations

from typing import Any

import pytest

from tqgen_kernels.quality.contenders import (
    DEFAULT_NAMES,
    cache_bytes,
    contender,
    plain_cache,
    scheme_bits,
    scheme_of,
    why_not,
)
from tqgen_kernels.quant.scheme import SCHEMES, Scheme

SHAPES = [(1, 64, 64), (1, 64, 64)]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp16", 16.0),
        ("mlx-8", 8.5),
        ("mlx-4", 4.5),
        ("mlx-3", 3.5),
        ("balanced", 3.75),  # (4 + 3) / 2 + 16 / 64
        ("k4v2", 3.25),
        ("k16v4", 10.125),
    ],
)
def test_bits_of_codes_and_scales(name: str, bits: float) -> None:
    assert contender(name, SHAPES).bits == bits


def test_bits_weigh_layers_and_sides_by_their_size() -> None:
    scheme = Scheme(key_bits=4, value_bits=2)
    assert scheme_bits(scheme, [(2, 192, 128)]) == pytest.approx((4 * 192 + 2 * 128 + 32) / 320)


@pytest.mark.parametrize("name", ["mlx-5", "k9v1", "k4", "Balanced", "", "k0v3"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="near-lossless"):
        contender(name, SHAPES)


def test_names_of_schemes() -> None:
    assert set(SCHEMES) < set(DEFAULT_NAMES)
    assert scheme_of("tiny") is SCHEMES["tiny"]
    assert scheme_of("k4v3-uniform") == Scheme(codebook="uniform")
    assert scheme_of("k5v16") == Scheme(key_bits=5, value_bits=None)


@pytest.mark.parametrize("name", ["fp16", "mlx-8", "mlx-4", "balanced", "k2v8", "seed"])
def test_every_kind_runs_on_a_model(name: str, model: Any) -> None:
    assert why_not(contender(name, SHAPES), model) is None


def test_bytes_of_the_plain_cache(model: Any) -> None:
    assert cache_bytes(plain_cache, model, SHAPES, 1024) == 2 * 2 * 1024 * 64 * 2


def test_compressed_bytes_are_the_bits_and_a_window(model: Any) -> None:
    tested = contender("balanced", SHAPES)
    stored = cache_bytes(tested.factory, model, SHAPES, 2048)
    codes = tested.bits / 8 * 2048 * 64 * 2 * 2
    assert codes * 0.9 < stored < codes + 2 * 2 * 2 * 64 * 512


def test_a_cache_that_fails_is_named_not_raised(model: Any) -> None:
    def broken(model: Any) -> list[Any]:
        raise RuntimeError("no such thing\nsecond line")

    tested = contender("fp16", SHAPES)
    failing = type(tested)("broken", broken, 1.0, "")
    assert why_not(failing, model) == "RuntimeError: no such thing"
