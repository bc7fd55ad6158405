"""`tqgen check`: what is wrong with a Metal kernel, printed like a compiler does."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tqgen_kernels.cli.options import Json

if TYPE_CHECKING:
    from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
    from tqgen_kernels.emulator.checker.kernels import Buffer, KernelText
    from tqgen_kernels.emulator.checker.python import KernelUse
    from tqgen_kernels.emulator.checker.run import Given

# Suffixes of files that are run as programs; everything else is read as Metal.
PYTHON = (".py",)
TOKENS = 104  # for our own kernels: whole tiles and a part of one


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="A .metal file with one or more kernel functions, a body with its buffers named "
        "by options, or a Python program whose mx.fast.metal_kernel calls are checked as it "
        "runs.",
        exists=True,
        dir_okay=False,
    ),
]
Static = Annotated[
    bool, typer.Option("--static", help="Only what can be found without running it.")
]
Msl = Annotated[
    str, typer.Option("--msl", help="Metal version to check for: 3.1 (macOS 14), 3.2 or 4.0.")
]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", help="x=float32: an input array of a file that is only a body."),
]
Scalars = Annotated[
    list[str] | None, typer.Option("--scalar", help="n=int32: a scalar input of a body.")
]
Outputs = Annotated[
    list[str] | None, typer.Option("--output", help="out=float32: an output of a body.")
]
Shapes = Annotated[list[str] | None, typer.Option("--shape", help="NAME=8x128: shape of a buffer.")]
Values = Annotated[
    list[str] | None, typer.Option("--value", help="NAME=3: what a buffer is filled with.")
]
Template = Annotated[list[str] | None, typer.Option("--template", help="NAME=float16 or NAME=4.")]
Grid = Annotated[str | None, typer.Option("--grid", help="Threads: 1024 or 64x8x1.")]
Threadgroup = Annotated[
    str | None, typer.Option("--threadgroup", help="Threads of a threadgroup: 256 or 32x8x1.")
]
InitValue = Annotated[
    float | None, typer.Option("--init-value", help="What outputs hold before the launch.")
]
Rounds = Annotated[
    int, typer.Option("--rounds", help="Launches of a kernel, each with other inputs.", min=1)
]
Seed = Annotated[int, typer.Option("--seed", help="Of the random inputs.")]


def check(
    files: Files,
    static: Static = False,
    msl: Msl = "3.1",
    input_: Inputs = None,
    scalar: Scalars = None,
    output: Outputs = None,
    shape: Shapes = None,
    value: Values = None,
    template: Template = None,
    grid: Grid = None,
    threadgroup: Threadgroup = None,
    init_value: InitValue = None,
    rounds: Rounds = 3,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Check a Metal kernel of your own: without running it, then on the emulator.

    What is not given is chosen: arrays of 1024 elements (7 in the constant address space), a thread
    an output element, an integer scalar as the number of elements. Exits with 1 for an error.
    """
    from tqgen_kernels.emulator.checker.run import Given

    version = _version(msl)
    buffers = _buffers(input_, scalar, output)
    given = Given(
        shapes={name: _sizes(text) for name, text in _pairs("--shape", shape)},
        values={name: _number(text) for name, text in _pairs("--value", value)},
        template=dict(_pairs("--template", template)),
        grid=_three(grid),
        threadgroup=_three(threadgroup),
        init_value=init_value,
    )
    found: list[tuple[str, Diagnostic]] = []
    ran: list[str] = []
    for file in files:
        if file.suffix in PYTHON:
            if given != Given() or buffers:
                raise ValueError(
                    f"{file} is a program: it chooses its own shapes, grid and template values"
                )
            # What the program prints must not come between the JSON.
            with redirect_stdout(sys.stderr) if as_json else nullcontext():
                more, words = _check_python(file, version, static, seed)
        else:
            more, words = _check_metal(file, version, static, given, buffers, rounds, seed)
        found += more
        ran += words
    errors = sum(diagnostic.severity == "error" for _, diagnostic in found)
    (_print_json if as_json else _print_lines)(found, ran, errors)
    if errors:
        raise typer.Exit(1)


def _print_lines(found: Sequence[tuple[str, Diagnostic]], ran: Sequence[str], errors: int) -> None:
    for place, diagnostic in found:
        typer.echo(diagnostic.format(place))
    for words in ran:
        typer.echo(f"ran {words}")
    warnings = len(found) - errors
    typer.echo(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")


def _print_json(found: Sequence[tuple[str, Diagnostic]], ran: Sequence[str], errors: int) -> None:
    places = [{"file": place, **dataclasses.asdict(diagnostic)} for place, diagnostic in found]
    counts = {"errors": errors, "warnings": len(found) - errors}
    typer.echo(json.dumps({**counts, "diagnostics": places, "ran": list(ran)}, indent=1))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _check_metal(
    file: Path,
    msl: tuple[int, int],
    static: bool,
    given: Given,
    buffers: Sequence[Buffer],
    rounds: int,
    seed: int,
) -> tuple[list[tuple[str, Diagnostic]], list[str]]:
    from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
    from tqgen_kernels.emulator.checker.kernels import kernel_of_body, kernels_of
    from tqgen_kernels.emulator.checker.run import fuzz, generated
    from tqgen_kernels.emulator.checker.static import check as check_static
    from tqgen_kernels.emulator.faults import MetalCompileError

    try:
        text = file.read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text: {error}") from None
    whole, before = text, 0  # what Metal would compile, and its lines before those of the file
    if buffers:
        kernels = [kernel_of_body(text, "body", buffers, list(given.template))]
        made = generated(kernels[0], given)
        whole, before = made.text, made.source_first_line - 1
    else:
        try:
            kernels = kernels_of(text)
        except MetalCompileError as error:
            line, column, message = re.split(r":\s*", str(error), maxsplit=2)
            refused = Diagnostic(int(line), int(column), "error", "not-for-mlx", message)
            return [(str(file), refused)], []
    found = [
        (str(file), dataclasses.replace(d, line=max(1, d.line - before)))
        for d in check_static(whole, msl=msl)
    ]
    if static or any(diagnostic.severity == "error" for _, diagnostic in found):
        return found, []
    own = _run_own_variant(text, kernels, seed)
    if own is not None:
        return [*found, *((str(file), d) for d in own[0])], own[1]
    given.check_names(kernels)
    ran: list[str] = []
    for kernel in kernels:
        diagnostics, words = fuzz(kernel, given, rounds=rounds, seed=seed)
        found += [(str(file), d) for d in diagnostics]
        ran += words
    return found, ran


def _run_own_variant(
    text: str, kernels: Sequence[KernelText], seed: int
) -> tuple[list[Diagnostic], list[str]] | None:
    """A file of `tqgen emit` names its problem: run it on that and compare with the reference."""
    lines = text.split("\n", 3)
    if len(kernels) != 1 or len(lines) < 4 or "Written by `tqgen emit`" not in lines[2]:
        return None
    from tqgen_kernels import emulator
    from tqgen_kernels.backends import emulated
    from tqgen_kernels.backends.compiled import Compiled
    from tqgen_kernels.codegen.families import FAMILIES
    from tqgen_kernels.codegen.problem import family_of, parse_problem
    from tqgen_kernels.codegen.render import render
    from tqgen_kernels.codegen.space import candidates
    from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
    from tqgen_kernels.emulator.checker.run import located

    problem = parse_problem(lines[0].removeprefix("//"))
    named = lines[1].removeprefix("//").strip()
    configs = {str(c): c for c in candidates(FAMILIES[family_of(problem)], problem)}
    if named not in configs:
        raise ValueError(f"line 2: {named!r} is no config of {lines[0].removeprefix('// ')}")
    (kernel,) = kernels
    rendered = render(problem, configs[named])
    variant = dataclasses.replace(rendered, header=kernel.header, source=kernel.source)
    compiled = Compiled(variant, emulated.NAME, emulated.build(variant))
    found: dict[tuple[int, str], Diagnostic] = {}
    for order in ("ascending", "descending", "random"):
        with emulator.options(checks="full", order=order, seed=seed, timeout=30.0) as used:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", emulator.MetalWarning)  # `used` has them
                    result = compiled.verify(seed, TOKENS)
            except emulator.MetalFault:
                result = None
        for finding in used.findings:
            diagnostic = located(finding, kernel)
            found.setdefault((diagnostic.line, diagnostic.rule), diagnostic)
        if result is not None and not result.passed:
            message = (
                f"the result is wrong: {result.measure} is {result.error:.3g}, "
                f"allowed is {result.tolerance:.3g}"
            )
            wrong = Diagnostic(kernel.line, kernel.column, "error", "wrong-result", message)
            found.setdefault((kernel.line, "wrong-result"), wrong)
    words = f"{rendered.uri} on {TOKENS} tokens, three orders of threads, against the reference"
    return sorted(found.values(), key=lambda d: (d.line, d.column)), [words]


def _check_python(
    file: Path, msl: tuple[int, int], static: bool, seed: int
) -> tuple[list[tuple[str, Diagnostic]], list[str]]:
    from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
    from tqgen_kernels.emulator.checker.python import run_python

    run = run_python(file.resolve(), static=static, seed=seed)
    program = file.read_text()
    found: dict[tuple[str, int, str], tuple[str, Diagnostic]] = {}
    ran = []
    for use in run.kernels:
        for place, diagnostic in _diagnostics_of(use, file, program, msl):
            found.setdefault((place, diagnostic.line, diagnostic.rule), (place, diagnostic))
        times = _count(use.calls, "launch").replace("launchs", "launches")
        ran.append(f"{use.name}: {times}" + ("" if use.calls else ": the program never calls it"))
    if not run.kernels:
        ran.append(f"{file}: it never calls mx.fast.metal_kernel")
    failed = []
    if run.failure:
        typer.echo(run.failure.trace, err=True)
        message = (
            f"the program ended with {run.failure.message}; what it did not reach is unchecked"
        )
        failed = [(str(file), Diagnostic(run.failure.line, 1, "error", "program", message))]
    return [*found.values(), *failed], ran


def _diagnostics_of(
    use: KernelUse, file: Path, program: str, msl: tuple[int, int]
) -> Iterator[tuple[str, Diagnostic]]:
    """With lines of the program where the kernel's text stands there literally."""
    from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
    from tqgen_kernels.emulator.checker.python import place_in_file
    from tqgen_kernels.emulator.checker.run import words_of
    from tqgen_kernels.emulator.checker.static import check as check_static

    if Path(use.file) != file.resolve():
        file = Path(use.file)  # a module that the program imported
        program = file.read_text() if file.is_file() else ""
    starts = {part: place_in_file(program, getattr(use, part)) for part in ("source", "header")}

    def placed(part: str, d: Diagnostic) -> tuple[str, Diagnostic]:
        start = starts[part]
        if start is None:
            return f"{file}: {part} of {use.name}", d
        return str(file), dataclasses.replace(d, line=start + d.line - 1)

    for text, first in use.texts.items():
        for d in check_static(text, msl=msl):
            if d.line >= first:
                yield placed("source", dataclasses.replace(d, line=d.line - first + 1))
            else:
                yield placed("header", d)
    for finding in use.findings:
        severity: Literal["error", "warning"] = "warning" if finding.soft else "error"
        d = Diagnostic(finding.line or 1, 1, severity, finding.kind, words_of(finding))
        yield placed(finding.part, d)
    for error in use.errors:
        if not any(
            d.severity == "error" for text in use.texts for d in check_static(text, msl=msl)
        ):
            yield placed("source", Diagnostic(1, 1, "error", "compile", error))


def _version(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d)\.(\d)", text)
    if not match:
        raise ValueError(f"--msl {text!r}: give 3.1, 3.2 or 4.0")
    return int(match[1]), int(match[2])


def _pairs(option: str, given: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in given or ():
        name, separator, rest = text.partition("=")
        if not (name.isidentifier() and separator and rest):
            raise ValueError(f"{option} {text!r}: give NAME=...")
        pairs.append((name, rest))
    return pairs


def _buffers(
    inputs: Sequence[str] | None, scalars: Sequence[str] | None, outputs: Sequence[str] | None
) -> list[Buffer]:
    """What a body is said to be given; empty if nothing is said."""
    from tqgen_kernels.emulator.checker.kernels import Buffer, dtype_of

    said = (("--input", inputs), ("--scalar", scalars), ("--output", outputs))
    buffers = [
        Buffer(
            name,
            dtype_of(kind),
            kind,
            option == "--scalar",
            option == "--output",
            option == "--scalar",
        )
        for option, texts in said
        for name, kind in _pairs(option, texts)
    ]
    if buffers and not outputs:
        raise ValueError("a body has an output: give --output out=float32")
    return buffers


def _sizes(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d+([x,]\d+)*", text):
        raise ValueError(f"{text!r} is no shape: give sizes as in 8x128")
    return tuple(int(n) for n in re.split("[x,]", text))


def _three(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sizes = (*_sizes(text), 1, 1)[:3]
    return sizes[0], sizes[1], sizes[2]


def _number(text: str) -> float:
    try:
        return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
    except ValueError:
        raise ValueError(f"--value: {text!r} is no number") from None
