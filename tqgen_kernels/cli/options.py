"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]
Model = Annotated[
    str | None,
    typer.Option(help="mlx-lm model: a folder or a hub name. Default: the demo model."),
]
Backend = Annotated[
    str | None, typer.Option(help="metal, cuda or emulated; the device's own if left out.")
]
ProblemText = Annotated[str, typer.Argument(help="As in attend:key_dim=128,value_dim=128,...")]
Family = Annotated[str, typer.Option(help="Only this kernel family, as in attend.")]
Fresh = Annotated[bool, typer.Option(help="Measure again what was measured before.")]
Windows = Annotated[int, typer.Option(min=1, help="Windows of the text.")]


def read_text(path: Path | None) -> str:
    """The text in a UTF-8 file, or the demo's. Raises ValueError and OSError."""
    from tqgen_kernels.demo.text import demo_text

    if path is None:
        return demo_text()
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
