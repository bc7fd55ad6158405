from __future__ import annotations

import sys
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from tests.tuning.fake import ENVIRONMENT, FakeRunner, config, steady, task, tuned
from tqgen_kernels.tuning.record.record import seal
from tqgen_kernels.tuning.report.page import invalid_by_reason, page
from tqgen_kernels.tuning.report.plot import png, svg
from tqgen_kernels.tuning.search.runner import InvalidVariant
from tqgen_kernels.tuning.search.tuner import tune


class Page(HTMLParser):
    """What a browser would fetch, and the text that it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#")
        ]

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def test_the_page_shows_everything_and_fetches_nothing() -> None:
    errors = {config(i): InvalidVariant("compile", "no such type") for i in (1, 2)}
    runner = FakeRunner(steady({3: 5e-4}), errors=errors)
    record = tune(task(), runner, ENVIRONMENT, clock=runner.clock)
    shown = Page(page([record]))
    assert shown.fetched == []
    assert "script" not in shown.tags
    assert shown.tags.count("svg") == 1
    for words in (
        "NVIDIA H100 80GB HBM3",
        "published bandwidth 3350 GB/s",
        "Chosen: lanes=3",
        "500 us",
        "compile 2 no such type lanes=1",
        "constraints 1 too few lanes lanes=-1",
        "noise band",
        "roofline",
        "without our kernels",
    ):
        assert words in shown.text, words


def test_text_from_a_record_is_shown_never_run() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m$\\frac{1}{"
    errors = {config(1): InvalidVariant("launch", hostile)}
    runner = FakeRunner(steady({}), errors=errors)
    environment = replace(ENVIRONMENT, device=hostile)
    text = page([tune(task(), runner, environment, clock=runner.clock)])
    assert "script" not in Page(text).tags
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "<script>alert(1)</script>?[31m$" in Page(text).text


def test_devices_have_their_own_section() -> None:
    other = replace(ENVIRONMENT, device="NVIDIA A100-SXM4-40GB", architecture="sm_80")
    shown = Page(page([tuned(environment=other), tuned()]))
    assert shown.tags.count("h2") == 2
    assert "2 problems on 2 devices" in " ".join(shown.text.split())


def test_a_record_without_a_winner_or_a_roof() -> None:
    errors = {c: InvalidVariant("compile", "no") for c in task().order}
    runner = FakeRunner(steady({}), errors=errors)
    emulated = replace(ENVIRONMENT, backend="emulated")
    nothing = tune(task(), runner, emulated, clock=runner.clock)
    assert "none was correct" in Page(page([nothing])).text
    imported = seal(replace(tuned(environment=emulated), provenance="imported", stopped="user"))
    shown = Page(page([imported])).text
    assert "roofline" not in shown
    assert "these times say nothing about a GPU" in shown
    assert "1 problem on 1 device" in " ".join(shown.split())
    assert "Imported from another machine" in shown
    assert "ended early: user" in shown


def test_reasons_are_counted() -> None:
    rows = invalid_by_reason(tuned(count=3).results)
    assert [(row.outcome, row.count, row.example) for row in rows] == [
        ("constraints", 1, "lanes=-1")
    ]


def test_the_same_record_draws_the_same_picture() -> None:
    record = tuned()
    assert svg(record) == svg(record)
    assert png(record).startswith(b"\x89PNG")


def test_without_matplotlib_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"tqgen-kernels\[plot\]"):
        svg(tuned())
