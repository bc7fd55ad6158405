"""A scheme for each layer, and scheme files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tqgen_kernels.quant.layered import (
    FORMAT,
    LayeredScheme,
    distinct,
    exact_ends,
    for_layers,
    read_scheme,
    scheme_of,
    write_scheme,
)
from tqgen_kernels.quant.scheme import SCHEMES, Scheme

TWO = LayeredScheme((Scheme(3, 2), Scheme(None, None, residual=32, codebook="uniform")))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_scheme(tmp_path / "two.json", TWO, {"model": "some"})
    return tmp_path / "two.json"


def test_a_file_gives_the_schemes_back(path: Path) -> None:
    assert read_scheme(path) == TWO
    assert scheme_of(scheme=path) == scheme_of(scheme=str(path)) == scheme_of(scheme=TWO) == TWO
    assert json.loads(path.read_text())["about"] == {"model": "some"}


def test_all_else_is_as_scheme_of_takes_it() -> None:
    assert scheme_of() == Scheme()
    assert scheme_of(3) == Scheme(3, 3)
    assert scheme_of(key_bits=3) == Scheme(3, None)
    for name, scheme in SCHEMES.items():
        assert scheme_of(scheme=name) is scheme
    with pytest.raises(ValueError, match="Give one of"):
        scheme_of(3, scheme=TWO)
    with pytest.raises(ValueError, match="choose one of"):
        scheme_of(scheme="huge")
    with pytest.raises(FileNotFoundError, match=r"no-such\.json"):
        scheme_of(scheme="no-such.json")


def test_a_guard_given_is_that_of_all_layers() -> None:
    guarded = scheme_of(scheme=TWO, guard="warn")
    assert isinstance(guarded, LayeredScheme)
    assert {layer.guard for layer in guarded.layers} == {"warn"}
    assert scheme_of(guard="off") == Scheme(guard="off")


def test_layers_share_schemes() -> None:
    assert distinct(Scheme()) == [Scheme()]
    assert distinct(LayeredScheme((*TWO.layers, *TWO.layers))) == list(TWO.layers)


def test_as_many_layers_as_the_model_has() -> None:
    assert for_layers(Scheme(), 3) == [Scheme()] * 3
    assert for_layers(TWO, 2) == TWO.layers
    with pytest.raises(ValueError, match=r"for 2 layers, and the model has 3.*tqgen calibrate"):
        for_layers(TWO, 3)
    exact = Scheme(None, None)
    assert exact_ends([Scheme()] * 4, 1) == [exact, Scheme(), Scheme(), exact]
    assert exact_ends([Scheme()] * 3, 2) == [exact] * 3
    assert exact_ends([Scheme()] * 2, 0) == [Scheme()] * 2


@pytest.mark.parametrize("layers", [(), (3,), ("small",)])
def test_layers_are_schemes(layers: Any) -> None:
    with pytest.raises(ValueError, match="tuple of Schemes"):
        LayeredScheme(layers)


def damaged(**changes: Any) -> bytes:
    document = {"format": FORMAT, "layers": [{"key_bits": 4}], "about": {}}
    return json.dumps(document | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# no JSON",
        b"\xff\xfe",
        b"[]",
        damaged()[:-9],
        damaged(format="tqgen-scheme-9"),
        damaged(layers=[]),
        damaged(layers=[{"key_bits": 9}]),
        damaged(layers=[{"key_bits": "4"}]),
        damaged(layers=[{"bits": 4}]),
        damaged(layers=[{"guard": "maybe"}]),
        damaged(layers=3),
        damaged(surprise=1),
    ],
)
def test_a_file_that_is_none_is_refused_and_left(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json is no scheme file.*tqgen calibrate"):
        read_scheme(path)
    assert path.read_bytes() == content
