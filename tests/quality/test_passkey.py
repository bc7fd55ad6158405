"""With a model of our own making, so that it is known what must be found."""

from __future__ import annotations

import re
from typing import Any

import mlx.core as mx
import pytest

from tqgen_kernels.quality.passkey import DEPTHS, passkey

FILLER = [ord(c) for c in "Nothing to see here. " * 50]


class Letters:
    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, tokens: list[int]) -> str:
        return "".join(map(chr, tokens))


class Memory:
    """A cache that holds the text itself."""

    def __init__(self) -> None:
        self.text = ""
        self.state: list[mx.array] = []


class Reader:
    """Predicts a digit of the hidden number wherever one is asked for, and `wrong` otherwise."""

    def __init__(self, alter: str = "") -> None:
        self.alter = alter
        self.texts: list[str] = []

    def __call__(self, x: mx.array, cache: list[Memory]) -> mx.array:
        tokens: list[int] = x[0].tolist()  # type: ignore[assignment]
        rows = []
        for token in tokens:
            cache[0].text += chr(token)
            rows.append(self._predict(cache[0].text))
        self.texts.append(cache[0].text)
        return mx.array(rows)[None]

    def _predict(self, text: str) -> list[float]:
        hidden = re.search(r"number is (\d{5})\. Remember", text)
        said = re.search(r"\? The secret number is (\d*)$", text)
        letter = "?"
        if hidden and said and len(said[1]) < 5:
            letter = self.alter or hidden[1][len(said[1])]
        return [8.0 if i == ord(letter) else 0.0 for i in range(128)]


def run(model: Reader, depth: float, length: int = 400) -> Any:
    return passkey(model, Letters(), FILLER, lambda _: [Memory()], depth, length)


@pytest.mark.parametrize("depth", DEPTHS)
def test_found_by_a_model_that_remembers(depth: float) -> None:
    model = Reader()
    found = run(model, depth)
    assert found.found
    assert found.nll == pytest.approx(0.0417, abs=1e-3)  # log(1 + 127 exp(-8))
    text = model.texts[-1]
    assert len(text) == 399  # the last digit is only predicted
    body = len(text) - len(re.sub(r"\n\nThe secret.*?\n\n", "", text, flags=re.S))
    place = text.index("The secret number") / (len(text) - body)
    assert place == pytest.approx(depth, abs=0.2)


def test_not_found_by_one_that_does_not() -> None:
    found = run(Reader(alter="x"), 0.5)
    assert not found.found
    assert found.nll > 7


def test_depths_have_keys_of_their_own() -> None:
    models = [Reader() for _ in DEPTHS]
    for model, depth in zip(models, DEPTHS, strict=True):
        run(model, depth)
    keys = {re.search(r"\d{5}", model.texts[-1])[0] for model in models}  # type: ignore[index]
    assert len(keys) == len(DEPTHS) == 10


def test_too_little_filler() -> None:
    with pytest.raises(ValueError, match="Give a longer text"):
        run(Reader(), 0.5, length=5000)
    with pytest.raises(ValueError, match="or a length above"):
        run(Reader(), 0.5, length=50)
