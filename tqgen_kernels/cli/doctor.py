"""`tqgen doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from tqgen_kernels.cli.options import Json
from tqgen_kernels.versions import NEEDED, PACKAGE, installed, supported_range, verdict

MLX_BACKENDS = ("mlx-cpu", "mlx-cuda-12", "mlx-cuda-13")  # Linux wheels that share their files
MIN_FREE_BYTES = 500_000_000  # less than the demo model and a tuned model's kernels take

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says what to do where `state` is not ok."""

    name: str
    value: str
    state: State = "ok"
    advice: str = ""


def doctor(as_json: Json = False) -> None:
    """What works on this machine, and what to do about the rest. Exit code 1 with a problem."""
    findings = diagnose()
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print(findings)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def diagnose() -> list[Finding]:
    """Every finding, in the order in which one thing needs the other."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check())
        except Exception as error:  # the report must come whatever is broken
            text = f"{type(error).__name__}: {error}"
            findings.append(Finding(check.__name__, text, "problem", "Report this as a mistake."))
    return findings


def software() -> Iterator[Finding]:
    """Python, this package, and the two that must be of a supported version."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.platform()} {platform.machine()}")
    ours = installed(PACKAGE)
    advice = "" if ours else "Versions cannot be checked; pip install -e . in the checkout helps."
    yield Finding(PACKAGE, ours or "not installed", "ok" if ours else "warning", advice)
    for name in reversed(NEEDED):  # MLX last: its wheel for this device comes next
        yield supported(name, installed(name), supported_range(name))


def supported(name: str, version: str | None, allowed: str) -> Finding:
    """Whether an installed `version` (None: not installed) lies in the range `allowed`."""
    fix = f'pip install "{name}{allowed}"'
    if version is None:
        wanted = "See the next line." if name == "mlx" and platform.system() == "Linux" else fix
        return Finding(name, "not installed", "problem", wanted)
    found = verdict(version, allowed)
    text = f"{version}, supported is {allowed}"
    if found == "too old":
        return Finding(name, text, "problem", f"Caches refuse to work on this version: {fix}")
    if found == "newer":
        return Finding(name, text, "warning", f"Results were not checked on this version: {fix}")
    return Finding(name, version)


def mlx_wheels() -> Iterator[Finding]:
    """On Linux exactly one of MLX's backend wheels may be installed."""
    if platform.system() != "Linux":
        return
    present = [name for name in MLX_BACKENDS if installed(name)]
    if len(present) > 1:
        remove = f"pip uninstall -y mlx {' '.join(present)}"
        advice = f"They overwrite one another: {remove}, then install one: {_extras()}."
        yield Finding("mlx backend", " and ".join(present), "problem", advice)
    elif not present:
        yield Finding("mlx backend", "none", "problem", f"Install one: {_extras()}.")
    else:
        yield Finding("mlx backend", present[0])


def device() -> Iterator[Finding]:
    """What MLX computes on, and where our kernels run."""
    try:
        import mlx.core as mx
    except ImportError as error:
        yield Finding("device", f"MLX cannot be imported: {error}", "problem", "See above.")
        return
    info = mx.device_info()
    yield Finding("device", f"{mx.default_device()}, {info.get('device_name', 'unnamed')}")
    yield kernels()
    if mx.default_device() == mx.cpu and shutil.which("nvidia-smi"):
        advice = f"pip uninstall -y mlx mlx-cpu, then pip install '{PACKAGE}[cuda]'."
        yield Finding("NVIDIA GPU", "MLX does not use it", "warning", advice)


def matrix_products() -> Iterator[Finding]:
    """What multiplies float32 matrices on a CPU: `tqgen` runs models by the same."""
    import subprocess

    code = "from tqgen_kernels import cpu_blas; print(cpu_blas.lend() or '')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    reason = done.stdout.strip()
    if installed("mlx-cpu") and platform.system() == "Linux":
        value = f"MLX's own: {reason}" if reason else "NumPy's OpenBLAS"
        advice = "Models run more than ten times slower by MLX's own, a reference BLAS."
        usual = not reason or "LD_PRELOAD" in reason
        yield Finding("products", value, "ok" if usual else "warning", "" if usual else advice)


def kernels() -> Finding:
    """The backend that runs our kernels."""
    from tqgen_kernels import backends

    try:
        name = backends.default_name()
    except ValueError as error:
        return Finding("kernels", str(error), "problem", "Give one of these, or unset it.")
    if name == backends.PORTABLE:
        return Finding(
            "kernels",
            "none for this device",
            "warning",
            "The cache works through plain MLX operations: right, not fast. "
            "TQGEN_BACKEND=emulated runs the Metal kernels on the CPU, for tests.",
        )
    if not backends.load(name).is_available():
        value = f"{name} is not available here"
        return Finding("kernels", value, "problem", "Unset TQGEN_BACKEND, or see below.")
    return Finding("kernels", name)


def emulator() -> Iterator[Finding]:
    """The compiler that the CPU emulator of Metal uses."""
    from tqgen_kernels.emulator import MetalCompileError
    from tqgen_kernels.emulator.compiler import find_compiler

    try:
        compiler = find_compiler()
    except MetalCompileError as error:
        reason, _, advice = str(error).partition("\n")
        only = "Only needed to run or check kernels on a CPU."
        yield Finding("emulator", reason, "warning", f"{only} {advice}".strip())
    else:
        yield Finding("emulator", f"{compiler.identity} ({compiler.path})")


def storage() -> Iterator[Finding]:
    """The folder of tuning records, compiled kernels and the demo model."""
    from tqgen_kernels.files import CACHE_VARIABLE, cache_dir

    folder = cache_dir()
    advice = f"Set {CACHE_VARIABLE} to a folder with room that you may write to."
    reason = not_writable(folder)
    if reason is not None:
        yield Finding("cache folder", f"{folder}: {reason}", "problem", advice)
        return
    free = shutil.disk_usage(folder).free
    enough = free >= MIN_FREE_BYTES
    text = f"{folder}, {free / 1e9:.1f} GB free"
    yield Finding("cache folder", text, "ok" if enough else "warning", "" if enough else advice)


def not_writable(folder: Path) -> str | None:
    """Why no file can be written to `folder` (made if missing), or None."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"tqgen")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def database() -> Iterator[Finding]:
    """How many tuning records there are, and whether all can be read."""
    from tqgen_kernels.tuning.database.folder import bundled_database, user_database

    notices: list[str] = []
    for name, records in (
        ("tuning records", user_database(notices.append)),
        ("bundled records", bundled_database(notices.append)),
    ):
        devices: dict[str, int] = {}
        for record in records.records():
            key = record.environment.device_key
            devices[key] = devices.get(key, 0) + 1
        count = ", ".join(f"{number} for {key}" for key, number in devices.items())
        yield Finding(name, f"{count or 'none'} in {records.root}")
    for notice in notices:
        advice = "Other records are used in its place; `tqgen autotune` makes it anew."
        yield Finding("tuning record", notice, "warning", advice)


def settings() -> Iterator[Finding]:
    """Environment variables of ours that are set."""
    for name, value in sorted(os.environ.items()):
        if name.startswith("TQGEN_"):
            yield Finding(name, value)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    software,
    mlx_wheels,
    device,
    matrix_products,
    emulator,
    storage,
    database,
    settings,
)


def _extras() -> str:
    return f"pip install '{PACKAGE}[cuda]' with an NVIDIA GPU, else pip install '{PACKAGE}[cpu]'"


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": ("ok", "green"), "warning": ("!", "yellow"), "problem": ("x", "red")}
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, colour = marks[finding.state]
        table.add_row(Text(mark, colour), finding.name, Text(finding.value))
        if finding.advice:
            table.add_row("", "", Text(finding.advice, colour))
    Console().print(table)
