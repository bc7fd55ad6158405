from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest

from tqgen_kernels.demo.text import TextError, demo_text, prose


def test_the_text_is_long_clean_and_the_same_twice() -> None:
    text = demo_text()
    paragraphs = text.split("\n\n")
    assert len(text) > 60_000
    assert text == demo_text()
    assert len(set(paragraphs)) == len(paragraphs)
    assert all(p == p.strip() and "\n" not in p for p in paragraphs)
    assert not {"+---", "***", "===", "`"} & set(text.split())
    assert sum(c.isalpha() or c in " .,;:()'_-\n" for c in text) > 0.97 * len(text)


@pytest.mark.parametrize(
    "block",
    [
        "   indented = code(that, must, not, be, in, the, text, at, all, even, if, it, is, long)"
        * 2,
        "+------+------+\n| a    | b    |\n+------+------+" * 5,
        "Sequence Types\n**************" * 10,
        "Too short.",
        "No full stop at the end of this otherwise perfectly fine paragraph of words " * 3,
    ],
)
def test_what_is_no_prose(block: str) -> None:
    assert prose(block) is None


def test_markup_goes_and_lines_are_joined() -> None:
    block = (
        'A *name* refers to an "object" of the comma-\nseparated list [3], ' + "word " * 20 + "end."
    )
    expected = "A name refers to an object of the comma-separated list, " + "word " * 20 + "end."
    assert prose(block) == expected


def test_a_python_without_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace())
    with pytest.raises(TextError, match="--text"):
        demo_text()
