"""A record's candidates as a picture: time against achieved bandwidth."""

from __future__ import annotations

import io
from statistics import median
from typing import TYPE_CHECKING, Any

from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.decide import BASELINES
from tqgen_kernels.tuning.record.record import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by shape as well as by colour (Okabe and Ito's palette for colour blindness).
_STYLE = {
    "chosen": {"marker": "*", "s": 190, "color": "#D55E00", "zorder": 5},
    "default": {"marker": "D", "s": 60, "color": "#0072B2", "zorder": 4},
    "without our kernels": {"marker": "s", "s": 55, "color": "#009E73", "zorder": 3},
    "another cache": {"marker": "P", "s": 60, "color": "#7B4FA3", "zorder": 3},
    "other candidates": {"marker": "o", "s": 24, "color": "#8A8F98", "zorder": 2},
}


def figure(record: Record) -> Figure:
    """Every candidate that was timed, the roofline and the noise band.

    Raises ImportError that says how to install matplotlib. No text of a record is drawn, so that
    none can be taken for mathematics.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The pictures are drawn by matplotlib: pip install 'tqgen-kernels[plot]'."
        ) from error
    drawn = Figure(figsize=(9.6, 3.8), layout="constrained")
    axes = drawn.subplots()
    timed = [r for r in record.results if r.outcome == "correct" and r.timed and r.bandwidth]
    for label, style in _STYLE.items():
        group = [r for r in timed if _kind(record, r) == label]
        if group:
            _draw_group(axes, group, label, style)
    if timed:
        ours = [median(r.timed) * 1e6 for r in timed if r.road not in BASELINES]
        if ours:
            band = (min(ours), min(ours) * (1 + record.noise))
            axes.axvspan(*band, color="#D55E00", alpha=0.15, lw=0, label="noise band")
        _scale(axes, [median(r.timed) * 1e6 for r in timed])
    if record.peak_bandwidth is not None:
        axes.axhline(record.peak_bandwidth, color="black", lw=1.2, ls="--", label="roofline")
    _scale_speed(axes, [r.bandwidth or 0.0 for r in timed], record.peak_bandwidth)
    axes.set_xlabel("time of a launch, us")
    axes.set_ylabel("achieved bandwidth, GB/s")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return drawn


def _kind(record: Record, result: Result) -> str:
    winner = record.winner
    if winner is not None and result.key == winner.key:
        return "chosen"
    if result.key == Config.of(**record.default):
        return "default"
    if result.road in BASELINES:
        return "another cache"
    return "without our kernels" if result.road else "other candidates"


def _scale_speed(axes: Any, speeds: list[float], peak: float | None) -> None:
    """From 0, unless the roofline is so far above that everything would lie on the axis."""
    if peak is not None and speeds and 0 < 5 * max(speeds) < peak:
        axes.set_yscale("log")
        axes.set_ylim(min(speeds) / 2, peak * 1.5)
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)


def _scale(axes: Any, times: list[float]) -> None:
    """Logarithmic where the times are far apart, with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullLocator

    if max(times) > 4 * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def _draw_group(axes: Any, group: list[Result], label: str, style: dict[str, Any]) -> None:
    """Medians, and the range of the samples as a thin line."""
    times = [median(r.timed) * 1e6 for r in group]
    speeds = [r.bandwidth for r in group]
    low = [t - min(r.timed) * 1e6 for t, r in zip(times, group, strict=True)]
    high = [max(r.timed) * 1e6 - t for t, r in zip(times, group, strict=True)]
    axes.errorbar(
        times, speeds, xerr=(low, high), fmt="none", lw=0.8, color=style["color"], alpha=0.5
    )
    axes.scatter(times, speeds, label=label, linewidths=0, **style)


def svg(record: Record) -> str:
    """The figure as an <svg> element, its text left as text."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": record.content_sha256}):
        figure(record).savefig(
            buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(record: Record) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure(record).savefig(buffer, format="png", dpi=160)
    return buffer.getvalue()
