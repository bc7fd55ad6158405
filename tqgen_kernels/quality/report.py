"""Measured units -> one row a cache -> table, JSON, plot (KL divergence against bits)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tqgen_kernels.files import write_atomically
from tqgen_kernels.quant.scheme import SCHEMES

from .agreement import Greedy, greedy_agreement
from .evaluate import Evaluation, Measured

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One cache. None: not measured.

    bits: codes and scales per value. stored_bits: all that the cache allocates, per value, at the
    window's length. compression: 16 / bits. perplexity_change: percent against the fp16 cache,
    with the standard error of the paired difference. kl: nats. top1: percent. greedy_prefix: equal
    tokens before the first difference; greedy_equal: equal choices after the same words.
    """

    name: str
    refused: str | None = None
    bits: float | None = None
    stored_bits: float | None = None
    compression: float | None = None
    perplexity: float | None = None
    perplexity_change: float | None = None
    perplexity_change_error: float | None = None
    kl_mean: float | None = None
    kl_p99: float | None = None
    top1: float | None = None
    greedy_prefix: int | None = None
    greedy_equal: int | None = None
    greedy_count: int | None = None
    passkeys_found: int | None = None
    passkeys: int | None = None
    passkey_nll: float | None = None


def row(measured: Measured, reference_greedy: Greedy | None) -> Row:
    """Summary of one contender; `reference_greedy` is the fp16 cache's continuation."""
    contender = measured.contender
    if measured.refused is not None:
        return Row(contender.name, refused=measured.refused, bits=contender.bits)
    nll = np.concatenate([unit.nll for unit in measured.forced])
    difference = nll - np.concatenate([unit.reference_nll for unit in measured.forced])
    kl = np.concatenate([unit.kl for unit in measured.forced])
    change = 100 * np.expm1(difference.mean())
    error = (100 + change) * difference.std() / np.sqrt(len(difference))
    greedy = None
    if measured.greedy is not None and reference_greedy is not None:
        greedy = greedy_agreement(reference_greedy.free, measured.greedy)
    keys = measured.passkeys
    return Row(
        name=contender.name,
        bits=contender.bits,
        stored_bits=measured.stored_bits,
        compression=16 / contender.bits,
        perplexity=float(np.exp(nll.mean())),
        perplexity_change=float(change),
        perplexity_change_error=float(error),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.percentile(kl, 99)),
        top1=100 * float(np.mean([same for unit in measured.forced for same in unit.top1])),
        greedy_prefix=greedy.prefix if greedy else None,
        greedy_equal=greedy.equal if greedy else None,
        greedy_count=greedy.count if greedy else None,
        passkeys_found=sum(key.found for key in keys) if keys else None,
        passkeys=len(keys) or None,
        passkey_nll=float(np.mean([key.nll for key in keys])) if keys else None,
    )


def rows(measured: Sequence[Measured]) -> list[Row]:
    """One row a contender, in order. The greedy reference is the contender called fp16."""
    reference = next((each.greedy for each in measured if each.contender.name == "fp16"), None)
    return [row(each, reference) for each in measured]


def _cells(row: Row) -> list[str]:
    def number(value: int | float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    change = number(row.perplexity_change, "+.2f")
    if row.perplexity_change_error is not None:
        change += f" ±{row.perplexity_change_error:.2f}"
    found = "-" if row.passkeys is None else f"{row.passkeys_found}/{row.passkeys}"
    return [
        row.name,
        number(row.bits, ".2f"),
        number(row.stored_bits, ".2f"),
        number(row.compression, ".2f") + "x" * (row.compression is not None),
        number(row.perplexity, ".3f") if row.refused is None else f"cannot run: {row.refused}",
        change,
        number(row.kl_mean, ".4f"),
        number(row.kl_p99, ".3f"),
        number(row.top1, ".1f"),
        "-" if row.greedy_equal is None else f"{row.greedy_equal}/{row.greedy_count}",
        number(row.greedy_prefix, "d"),
        found,
    ]


COLUMNS = (
    "cache",
    "bits",
    "stored",
    "smaller",
    "perplexity",
    "change %",
    "KL",
    "KL p99",
    "top-1 %",
    "greedy",
    "prefix",
    "passkey",
)
LEGEND = """bits: codes and scales per value; stored: all that one window allocates, in float16.
KL: KL(fp16 cache || this cache) in nats, mean and 99th percentile; top-1: same best token.
greedy: equal choices after the same words; prefix: equal tokens before free texts part."""
PLAIN = {name for name, scheme in SCHEMES.items() if scheme.residual == scheme.sinks == 0}


def tables(rows: Sequence[Row], title: str, width: int) -> list[Table]:
    """The rows as one rich table, or as two where `width` characters are too few for one."""
    from rich.table import Table

    half = 6
    parts = [range(len(COLUMNS))]
    if width < 110:
        parts = [range(half), range(half, len(COLUMNS))]
    made = []
    for part in parts:
        shown = [0, *(index for index in part if index > 0)]
        each = Table(title=title if part[0] == 0 else None, title_justify="left")
        for index in shown:
            each.add_column(COLUMNS[index], justify="left" if index == 0 else "right")
        for cells in map(_cells, rows):
            each.add_row(*(cells[index] for index in shown))
        made.append(each)
    made[-1].caption, made[-1].caption_justify = LEGEND, "left"
    return made


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [" | ".join(COLUMNS), " | ".join(["---"] * len(COLUMNS))]
    lines += [" | ".join(cell.replace("|", "/") for cell in _cells(each)) for each in rows]
    return "".join(f"| {line} |\n" for line in lines)


def as_json(rows: Sequence[Row], evaluation: Evaluation) -> str:
    """Rows and everything needed to run the measurement again."""
    from importlib.metadata import version

    import mlx.core as mx

    document = {
        "model": evaluation.loaded.name,
        "fingerprint": evaluation.loaded.fingerprint,
        "device": str(mx.default_device()),
        "dtype": str(evaluation.loaded.dtype),
        "versions": {name: version(name) for name in ("mlx", "mlx-lm")},
        "plan": asdict(evaluation.plan),
        "rows": [asdict(each) for each in rows],
    }
    return json.dumps(document, indent=1)


def plot(rows: Sequence[Row], path: Path, title: str) -> None:
    """KL divergence (log scale) against bits per value, as PNG. Needs matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    points = [(each.name, each.bits, each.kl_mean) for each in rows if each.kl_mean]
    groups = {
        "mlx-lm QuantizedKVCache": [p for p in points if p[0].startswith("mlx-")],
        "plain TurboQuant": [p for p in points if p[0] in PLAIN],
        "TurboQuant schemes": [
            p for p in points if not p[0].startswith("mlx-") and p[0] not in PLAIN
        ],
    }
    for marker, (label, group) in zip("s^o", groups.items(), strict=True):
        line = sorted((bits or 0.0, kl or 0.0) for _, bits, kl in group)
        if line:
            style = "-" if marker == "s" else "none"  # only one family differs in bits alone
            axes.plot(*zip(*line, strict=True), marker=marker, linestyle=style, label=label)
        for name, bits, kl in group:
            axes.annotate(
                name, (bits or 0.0, kl or 0.0), textcoords="offset points", xytext=(5, 5), size=8
            )
    axes.set(xlabel="bits per value (codes and scales)", ylabel="KL from the fp16 cache, nats")
    axes.set_yscale("log")
    axes.margins(x=0.12)
    axes.set_title(title, size=9)
    axes.grid(True, which="both", alpha=0.3)
    if points:
        axes.legend()
    image = BytesIO()
    figure.savefig(image, format="png", dpi=150)
    plt.close(figure)
    write_atomically(path, image.getvalue())
