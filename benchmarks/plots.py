"""The pictures of docs/performance.md, from what the other benchmarks wrote to docs/measured/.

    python benchmarks/plots.py [--measured docs/measured] [--out docs]

decode-ratio.png: a decode step over the packed cache against fp16, by context length.
bandwidth.png: bytes a decode step has to read, over its time, against what a copy reaches.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tqgen_kernels.files import write_atomically

HEAD_DIM = 128  # of every problem that benchmarks/attend.py times
FP16_BYTES = 4 * HEAD_DIM  # of a token and head, key and value
SCALE_BYTES = 4
# Told apart by shape as well as by colour (Okabe and Ito's palette for colour blindness).
STYLES = (
    ("#D55E00", "o"),
    ("#0072B2", "s"),
    ("#009E73", "^"),
    ("#7B4FA3", "D"),
    ("#8A8F98", "v"),
    ("#E69F00", "P"),
)


@dataclass(frozen=True)
class Step:
    """One row of h100-attend.json. heads: as in '32/8', query over kv heads. us, by contender."""

    heads: str
    tokens: int
    batch: int
    key_bits: int
    value_bits: int
    us: dict[str, float]

    @property
    def packed_bytes(self) -> float:
        return self._vectors * (HEAD_DIM * (self.key_bits + self.value_bits) / 8 + SCALE_BYTES)

    @property
    def fp16_bytes(self) -> float:
        return self._vectors * FP16_BYTES

    @property
    def _vectors(self) -> int:
        return self.batch * int(self.heads.split("/")[1]) * self.tokens


def steps(document: dict[str, Any]) -> list[Step]:
    """The rows of a file of benchmarks/attend.py. Raises ValueError for a row of another form."""
    return [_step(row) for row in document["rows"]]


def _step(row: dict[str, Any]) -> Step:
    form = r"(\d+/\d+) x (\d+), batch (\d+), K(\d)V(\d)"
    found = re.match(form, row["problem"])
    if found is None:
        raise ValueError(f"{row['problem']!r} is no problem of benchmarks/attend.py ({form}).")
    heads, *numbers = found.groups()
    times = {k.removesuffix(" us"): v for k, v in row.items() if k.endswith(" us")}
    us = {name: float(v) for name, v in times.items() if isinstance(v, int | float)}
    return Step(heads, *map(int, numbers), us)


def ratio_picture(rows: list[Step], device: str) -> Figure:
    """Times as fast as fp16, by context length, a line a head layout. Batch 1, the bits that most
    problems have; the fastest storage of each."""
    drawn = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = drawn.subplots()
    kinds = [(row.key_bits, row.value_bits) for row in rows]
    bits = max(kinds, key=kinds.count)
    chosen = [r for r in rows if r.batch == 1 and (r.key_bits, r.value_bits) == bits]
    for heads, (colour, marker) in zip(sorted({r.heads for r in chosen}), STYLES, strict=False):
        line = sorted((r.tokens, max(_ratios(r))) for r in chosen if r.heads == heads)
        label = f"{heads} query/kv heads"
        axes.plot(*zip(*line, strict=True), marker=marker, color=colour, label=label)
    axes.axhline(1, color="black", linewidth=0.8)
    bound = chosen[0].fp16_bytes / chosen[0].packed_bytes
    axes.axhline(bound, color="black", linewidth=0.8, linestyle="--")
    axes.text(0.01, bound, f" ratio of the bytes: {bound:.1f}", va="bottom",
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(
        xscale="log", ylim=(0, bound * 1.12), xlabel="tokens in the cache",
        ylabel="times as fast as fp16",
        title=f"One decode step, K{bits[0]} V{bits[1]}, head_dim {HEAD_DIM}\n{device}",
    )  # fmt: skip
    _context_ticks(axes, sorted({r.tokens for r in chosen}))
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0.88))
    return drawn


def _ratios(row: Step) -> list[float]:
    return [row.us["fp16"] / us for name, us in row.us.items() if name != "fp16"]


def bandwidth_picture(rows: list[Step], copy: float, device: str) -> Figure:
    """GB/s of the bytes that a step has to read, and what MLX's own copy reaches."""
    drawn = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = drawn.subplots()
    names = dict.fromkeys(name for row in rows for name in row.us)
    for name, (colour, marker) in zip(names, STYLES, strict=False):
        points = [
            (size / 1e6, size / row.us[name] / 1e3)
            for row in rows
            if name in row.us
            for size in [row.fp16_bytes if name == "fp16" else row.packed_bytes]
        ]
        axes.scatter(*zip(*points, strict=True), color=colour, marker=marker, label=name)
    axes.axhline(copy, color="black", linewidth=0.8, linestyle="--")
    axes.text(0.01, copy, f" a copy: {copy:.0f} GB/s", va="bottom",
              transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set(
        xscale="log", ylim=(0, copy * 1.15), xlabel="MB that a decode step has to read",
        ylabel="GB/s", title=f"Achieved bandwidth of one decode step\n{device}",
    )  # fmt: skip
    axes.legend()
    return drawn


def _context_ticks(axes: Axes, tokens: list[int]) -> None:
    axes.set_xticks(tokens, [f"{n // 1024}k" if n >= 1024 else str(n) for n in tokens])
    axes.minorticks_off()


def copy_bandwidth(folder: Path) -> float:
    """The most GB/s that a copy reached in the folder's encode and dequantize runs."""
    files = (folder / f"h100-{name}.json" for name in ("encode", "dequantize"))
    rows = [row for file in files for row in json.loads(file.read_text())["rows"]]
    return max(float(row["GB/s"]) / float(row["of copy"]) for row in rows)


def main(
    measured: Annotated[Path, typer.Option(help="Where the JSON files are.")] = Path(
        "docs/measured"
    ),
    out: Annotated[Path, typer.Option(help="Where to write the pictures.")] = Path("docs"),
) -> None:
    """Draw both pictures anew."""
    document = json.loads((measured / "h100-attend.json").read_text())
    rows, device = steps(document), document["environment"]["device"]
    pictures = {
        "decode-ratio.png": ratio_picture(rows, device),
        "bandwidth.png": bandwidth_picture(rows, copy_bandwidth(measured), device),
    }
    for name, picture in pictures.items():
        image = io.BytesIO()
        picture.savefig(image, format="png", dpi=130)
        write_atomically(out / name, image.getvalue())
        typer.echo(f"{out / name}")


if __name__ == "__main__":
    typer.run(main)
