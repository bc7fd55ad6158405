"""One HTML page on tuning records: no scripts, nothing from the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.label import config_label, format_time, short_label
from tqgen_kernels.tuning.record.record import Record, Result, printable
from tqgen_kernels.tuning.report.plot import svg

MOST_CANDIDATES = 12  # in a problem's table; the picture has all
TEMPLATE = "page.html.jinja"


@dataclass(frozen=True)
class Invalid:
    """Candidates that could not be used for the same reason."""

    outcome: str
    count: int
    detail: str
    example: str


def page(records: Iterable[Record]) -> str:
    """The page as text. Text from records is escaped. Raises ImportError without matplotlib."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
    )
    ordered = sorted(records, key=lambda r: (r.environment.device_key, r.problem))
    devices = []
    for key, group in groupby(ordered, key=lambda r: r.environment.device_key):
        of_device = list(group)
        problems: list[dict[str, Any]] = []
        for number, record in enumerate(of_device):
            anchor = f"{key}-{number}"
            problems.append({**_problem(record), "anchor": anchor, "svg": Markup(svg(record))})
        devices.append(
            {
                "name": printable(of_device[0].environment.device),
                "emulated": of_device[0].environment.backend == "emulated",
                "environment": _environment(of_device),
                "problems": problems,
            }
        )
    return environment.get_template(TEMPLATE).render(devices=devices)


def _environment(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Field and value; all values where the records of one device differ."""
    peaks = {r.peak_bandwidth for r in records if r.peak_bandwidth is not None}
    rows = []
    for name in records[0].environment.__struct_fields__:
        values = {getattr(r.environment, name) for r in records} - {None, ""}
        if values:
            rows.append((name, ", ".join(sorted(printable(str(v)) for v in values))))
    if peaks:
        rows.append(("published bandwidth", ", ".join(f"{p:g} GB/s" for p in sorted(peaks))))
    return rows


def _problem(record: Record) -> dict[str, Any]:
    winner, default = record.winner, record.result(Config.of(**record.default))
    valid = [r for r in record.results if r.outcome == "correct" and r.timed]
    fastest = sorted(valid, key=lambda r: (median(r.timed), r.index))[:MOST_CANDIDATES]
    always = [r for r in (winner, default) if r is not None and r.timed and r not in fastest]
    return {
        "problem": record.problem.replace(",", ", "),
        "label": short_label(record.parsed_problem).replace("_", " "),
        "chosen": "nothing: none was correct"
        if winner is None
        else printable(config_label(winner.key)),
        "time": _median(winner),
        "default_time": _median(default),
        "uncompressed": _median(next((r for r in record.results if r.road == "fp16"), None)),
        "bandwidth": "-" if winner is None else _number(winner.bandwidth),
        "roofline": "-" if winner is None else _percent(winner.roofline),
        "summary": _summary(record, len(valid)),
        "fastest": [_candidate(record, r, default) for r in (*fastest, *always)],
        "invalid": invalid_by_reason(record.results),
    }


def _summary(record: Record, timed: int) -> str:
    text = (
        f"{timed} of {len(record.results)} candidates were timed by {record.strategy} search under "
        f"the {printable(record.policy.name)} policy; within {record.noise:.1%} of the fastest the "
        f"earlier-declared one is chosen. {printable(record.tuned_at)}."
    )
    if record.stopped != "complete":
        text += f" The search ended early: {record.stopped}."
    if record.provenance != "measured":
        text += " Imported from another machine."
    return text


def _candidate(record: Record, result: Result, default: Result | None) -> dict[str, Any]:
    ratio = "-"
    if default is not None and default.timed:
        ratio = f"{median(result.timed) / median(default.timed):.3f}"
    return {
        "config": printable(config_label(result.key)),
        "chosen": record.winner is not None and result.key == record.winner.key,
        "time": _median(result),
        "ratio": ratio,
        "bandwidth": _number(result.bandwidth),
        "roofline": _percent(result.roofline),
        "samples": len(result.timed),
        "error": f"{result.error:.2g} / {result.tolerance:.2g}",
    }


def invalid_by_reason(results: Iterable[Result]) -> list[Invalid]:
    """What could not be used, the same outcome and reason in one row, the most frequent first."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result.outcome != "correct":
            groups.setdefault((result.outcome, result.detail), []).append(result)
    rows = [
        Invalid(outcome, len(found), printable(detail, 300), printable(config_label(found[0].key)))
        for (outcome, detail), found in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.outcome, -row.count, row.detail))


def _median(result: Result | None) -> str:
    return format_time(median(result.timed)) if result is not None and result.timed else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
