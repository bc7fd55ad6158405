"""The front end's own errors, and its syntax tree, for a Metal text."""

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqgen_kernels.emulator.build import front_end_flags, lax_flags
from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
from tqgen_kernels.emulator.compiler import Compiler, run
from tqgen_kernels.emulator.prelude import precompiled_prelude
from tqgen_kernels.emulator.ranks import REFUSAL, repaired
from tqgen_kernels.emulator.rewrite import rewrite

_FILE = "kernel.cl"
_WARNINGS = [
    "-Wuninitialized",
    "-Wsometimes-uninitialized",
    "-Wshift-count-overflow",
    "-Wshift-count-negative",
    "-Wdivision-by-zero",
    "-Warray-bounds",
    "-Winfinite-recursion",
    "-Wno-unknown-attributes",
    "-Wno-unused-value",
]
_MESSAGE = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): "
    r"(?P<kind>fatal error|error|warning|note): (?P<text>.*?)(?: \[-W(?P<option>[^\]]+)\])?$"
)
# Which rule of Metal an error of the front end is about.
_RULES = (
    (
        "function-pointer",
        re.compile(r"pointers? to functions? (are|is) not allowed|taking address of function"),
    ),
    ("program-scope", re.compile(r"variable in constant address space must be initialized")),
    ("bfloat-conversion", re.compile(r"from '(__private )?(half|float)' to '(__private )?bfloat'")),
    ("vector-constructor", re.compile(r"^the arguments of a vector const|^a vector is made from")),
    ("vector-conversion", re.compile(r"\(vector of|ext_vector_type|vector operands|vector type")),
    ("address-space", re.compile(r"__(global|local|constant|private|generic)\b|address space")),
    ("double", re.compile(r"\bdouble\b")),
)
_METAL_WORDS = (
    (re.compile(r"\b(\w+) __attribute__\(\(ext_vector_type\((\d)\)\)\)"), r"\1\2"),
    (re.compile(r"\*__private\b|(?<=&)__private\b"), lambda m: m.group().replace("__private", "")),
    (re.compile(r"__private (?=[^'*&]*')"), ""),  # of a value: every local is
    (re.compile(r"__global\b"), "device"),
    (re.compile(r"__local\b"), "threadgroup"),
    (re.compile(r"__constant\b"), "constant"),
    (re.compile(r"__private\b"), "thread"),
    (re.compile(r"__generic (?=\w)"), ""),
    (re.compile(r"__tq_make<([^<>]*)>"), r"\1"),
    (re.compile(r"__bf16\b"), "bfloat"),
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What clang made of a text: its messages, and the syntax tree of the text alone."""

    diagnostics: tuple[Diagnostic, ...]
    tree: dict[str, Any]


def parse(text: str, compiler: Compiler) -> Parsed:
    """Parses Metal `text` with clang, without generating code."""
    rewritten = rewrite(text)
    output, tree = _run_clang(compiler, rewritten, front_end_flags())
    diagnostics = tuple(_diagnostics(output, text, rewritten))
    if any(d.severity == "error" for d in diagnostics) and (relaxed := lax_flags(output)):
        lax, _ = _run_clang(compiler, rewritten, [*front_end_flags(), *relaxed])
        if " error: " not in lax:
            diagnostics = tuple(d for d in diagnostics if d.severity == "warning")
    return Parsed(diagnostics, tree)


def _run_clang(compiler: Compiler, rewritten: str, flags: list[str]) -> tuple[str, dict[str, Any]]:
    """Messages and syntax tree."""
    prelude = precompiled_prelude(compiler, tuple(flags))
    with tempfile.TemporaryDirectory(prefix="tqgen-check-") as folder:
        source = Path(folder) / _FILE
        source.write_text(rewritten)
        command = [
            *compiler.clang, *flags, *_WARNINGS, "-include-pch", str(prelude),
            "-fsyntax-only", "-Xclang", "-ast-dump=json", _FILE,
        ]  # fmt: skip
        done = run(command, cwd=source.parent)
        if REFUSAL in done.stderr and repaired(compiler, flags, prelude, source):
            done = run(command, cwd=source.parent)
    return done.stderr, json.loads(done.stdout) if done.stdout.strip() else {}


def _diagnostics(output: str, text: str, rewritten: str) -> Iterator[Diagnostic]:
    messages = [match for line in output.splitlines() if (match := _MESSAGE.match(line))]
    for i, message in enumerate(messages):
        if message["kind"] == "note":
            continue
        place = message
        if message["file"] != _FILE:
            # In the prelude: what counts is the line of the text that led there.
            notes = _notes_of(messages, i)
            if not notes:
                continue
            place = notes[-1]
        line = int(place["line"])
        column = original_column(text, rewritten, line, int(place["column"]))
        option = message["option"]
        soft = message["kind"] == "warning" and option != "infinite-recursion"
        if soft and f"-W{option}" not in _WARNINGS:
            continue
        said = _explained(messages, i)
        yield Diagnostic(
            line, column, "warning" if soft else "error", _rule(said, option), metal_words(said)
        )


def _explained(messages: list[re.Match[str]], i: int) -> str:
    """The message, with why a call's only candidate does not fit; the words of an assertion."""
    text: str = messages[i]["text"]
    if text.startswith("static assertion failed"):
        return text.rsplit("': ", 1)[-1]
    candidates = []
    for message in messages[i + 1 :]:
        if message["kind"] != "note":
            break
        if message["text"].startswith("candidate "):
            candidates.append(message["text"])
    if len(candidates) == 1 and ": " in candidates[0]:
        return f"{text}: {candidates[0].split(': ', 1)[1]}"
    return text


def _notes_of(messages: list[re.Match[str]], i: int) -> list[re.Match[str]]:
    notes = []
    for message in messages[i + 1 :]:
        if message["kind"] != "note":
            break
        if message["file"] == _FILE:
            notes.append(message)
    return notes


def _rule(text: str, option: str | None) -> str:
    if option == "infinite-recursion":
        return "recursion"
    return option or next((rule for rule, p in _RULES if p.search(text)), "compile")


def metal_words(text: str) -> str:
    """A message of the front end in the words of Metal."""
    for pattern, replacement in _METAL_WORDS:
        text = pattern.sub(replacement, text)
    return text


def original_column(text: str, rewritten: str, line: int, column: int) -> int:
    """Column in `text` of what stands at `column` of the rewritten line."""
    before, after = _line(text, line), _line(rewritten, line)
    if before == after:
        return column
    word = re.match(r"\w+|.", after[column - 1 :])
    if word is None:
        return 1
    pattern = re.compile(
        rf"(?<!\w){re.escape(word.group())}(?!\w)"
        if word.group()[0].isalnum()
        else re.escape(word.group())
    )
    found = [match.start() + 1 for match in pattern.finditer(before)]
    if not found:
        return len(before) - len(before.lstrip()) + 1
    index = len(pattern.findall(after[: column - 1]))
    return found[min(index, len(found) - 1)]


def _line(text: str, line: int) -> str:
    lines = text.split("\n")
    return lines[line - 1] if line <= len(lines) else ""
