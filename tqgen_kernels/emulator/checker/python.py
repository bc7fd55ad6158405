"""Runs a Python file with the emulator in place of mx.fast.metal_kernel, and notes every call."""

from __future__ import annotations

import runpy
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
from tqgen_kernels.emulator.faults import Finding, MetalCompileError, MetalFault, MetalWarning
from tqgen_kernels.emulator.signature import Dtype, GeneratedKernel, InputSpec, metal_source


@dataclass
class KernelUse:
    """One call of metal_kernel, the texts that its calls came to, and what was found in them."""

    name: str
    header: str
    source: str
    file: str  # of the Python code that made it
    calls: int = 0
    texts: dict[str, int] = field(default_factory=dict)  # text -> line on which the source begins
    findings: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Failure:
    """An exception of the program's own; `line` is the last one of the file itself."""

    line: int
    message: str
    trace: str


@dataclass(frozen=True)
class PythonRun:
    """What running the file came to."""

    kernels: tuple[KernelUse, ...]
    failure: Failure | None


def run_python(path: Path, *, static: bool = False, seed: int = 0) -> PythonRun:
    """Runs `path` as a program and checks each launch.

    A launch with a fault does not stop the program: its outputs are zeros. static: no kernel is
    run at all, every output is zeros.
    """
    import mlx.core as mx

    from tqgen_kernels import emulator
    from tqgen_kernels.emulator.installation import install, is_installed, uninstall

    uses: list[KernelUse] = []

    def recording_kernel(*args: Any, **kwargs: Any) -> Any:
        inner = emulator.metal_kernel(*args, **kwargs)
        made_by = sys._getframe(1).f_code.co_filename
        use = KernelUse(inner.name, inner.header, inner.source, made_by)
        uses.append(use)
        return lambda **call: _call(inner, use, call, static)

    was_installed = is_installed()
    install(as_metal=True)
    before = mx.fast.metal_kernel
    argv, search = sys.argv, list(sys.path)
    mx.fast.metal_kernel = recording_kernel
    sys.argv, sys.path[0:0] = [str(path)], [str(path.parent)]
    failure = None
    try:
        with (
            emulator.options(checks="full", order="random", seed=seed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore", MetalWarning)  # each use has its findings
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit:
        pass
    except Exception as error:
        failure = _failure(path, error)
    finally:
        sys.argv, sys.path[:] = argv, search
        mx.fast.metal_kernel = before
        if not was_installed:
            uninstall()
    return PythonRun(tuple(uses), failure)


def _failure(path: Path, error: Exception) -> Failure:
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.lineno for f in reversed(frames) if f.filename == str(path)), None)
    if line is None:
        line = getattr(error, "lineno", None)  # of a SyntaxError
    message = traceback.format_exception_only(error)[-1].strip()
    return Failure(line or 1, message, "".join(traceback.format_exception(error)))


def _call(inner: Any, use: KernelUse, call: dict[str, Any], static: bool) -> list[Any]:
    import mlx.core as mx

    from tqgen_kernels import emulator

    use.calls += 1
    try:
        generated = _generated(inner, call)
        use.texts.setdefault(generated.text, generated.source_first_line)
        if not static:
            with emulator.options() as used:
                try:
                    return list(inner(**call))
                except MetalFault:
                    pass
                finally:
                    use.findings.extend(used.findings)
    except MetalCompileError as error:
        if str(error) not in use.errors:
            use.errors.append(str(error))
    shapes, dtypes = call["output_shapes"], call["output_dtypes"]
    return [mx.zeros(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]


def _generated(inner: Any, call: dict[str, Any]) -> GeneratedKernel:
    import mlx.core as mx

    def name(dtype: Any) -> str:
        return str(dtype).removeprefix("mlx.core.")

    arrays = [x if isinstance(x, mx.array) else mx.array(x) for x in call["inputs"]]
    return metal_source(
        inner.name,
        inner.input_names,
        inner.output_names,
        inner.source,
        inner.header,
        inner.atomic_outputs,
        [InputSpec(name(a.dtype), tuple(a.shape), ()) for a in arrays],  # strides change no text
        [name(dtype) for dtype in call["output_dtypes"]],
        [
            (parameter, Dtype(name(value)) if isinstance(value, mx.Dtype) else value)
            for parameter, value in call.get("template") or ()
        ],
    )


def place_in_file(text: str, part: str) -> int | None:
    """Line of `text` on which `part`, a kernel's source or header, begins; None if it is built."""
    at = text.find(part) if part.strip() else -1
    return None if at < 0 else text.count("\n", 0, at) + 1


def distinct(diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
    """One of each place and rule, in the order of their lines."""
    seen = {(d.line, d.rule): d for d in reversed(diagnostics)}
    return sorted(seen.values(), key=lambda d: (d.line, d.column))
