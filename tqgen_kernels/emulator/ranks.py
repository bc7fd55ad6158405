"""Vectors with scalars of a wider type: Metal converts the scalar, OpenCL refuses.

The front end says where both operands stand; the scalar gets the type of the vector's elements.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tqgen_kernels.emulator.compiler import Compiler, run

REFUSAL = "scalar operand type has greater rank"
_ROUNDS = 12  # an operation inside an operation shows only when the inner one is right
_MESSAGE = re.compile(
    r"^[^:\n]+:\d+:\d+:(?P<ranges>(?:\{[^}]*\})*): (?P<kind>error|note): (?P<text>.*)$"
)
_RANGE = re.compile(r"\{(\d+):(\d+)-(\d+):(\d+)\}")
_OPERANDS = re.compile(r"\('(?P<left>.*?)'(?P<vector> \(vector of .*?\))?.* and ")

_Range = tuple[int, int, int]  # line of the file, first column, column behind the last


def repaired(compiler: Compiler, flags: list[str], prelude: Path, source: Path) -> bool:
    """Rewrites `source` until the front end finds no such operation; whether it changed."""
    changed = False
    for _ in range(_ROUNDS):
        done = run(
            [
                *compiler.clang, *flags, "-include-pch", str(prelude), "-fsyntax-only",
                "-ferror-limit=0", "-fdiagnostics-print-source-range-info", source.name,
            ],
            cwd=source.parent,
        )  # fmt: skip
        lines = source.read_text().split("\n")
        if REFUSAL not in done.stderr or not _convert(lines, list(_operands(done.stderr))):
            break
        source.write_text("\n".join(lines))
        changed = True
    return changed


def _operands(output: str) -> Iterator[tuple[_Range, _Range]]:
    """(vector, scalar) of each operation; inside a macro where its text stands."""
    messages = [match for line in output.splitlines() if (match := _MESSAGE.match(line))]
    for i, message in enumerate(messages):
        if message["kind"] != "error" or not message["text"].startswith(REFUSAL):
            continue
        ranges = _RANGE.findall(message["ranges"])
        for note in messages[i + 1 :]:
            if note["kind"] == "error" or len(set(ranges)) == 2:
                break
            if note["text"].startswith("expanded from macro"):
                ranges = _RANGE.findall(note["ranges"])
        types = _OPERANDS.search(message["text"])
        if len(set(ranges)) != 2 or types is None:
            continue
        left, right = (
            (int(line), int(first), int(end)) if line == last else (0, 0, 0)
            for line, first, last, end in ranges
        )
        is_vector = types["vector"] or "ext_vector_type" in types["left"]
        yield (left, right) if is_vector else (right, left)


def _convert(lines: list[str], operands: list[tuple[_Range, _Range]]) -> bool:
    """Puts the conversions into `lines`, from the last to the first; ranges never overlap."""
    changed, before = False, (len(lines) + 1, 0)
    for vector, scalar in sorted(set(operands), key=lambda pair: pair[1], reverse=True):
        line, first, end = scalar
        if not line or not vector[0] or (line, end) > before:
            continue
        name = lines[vector[0] - 1][vector[1] - 1 : vector[2] - 1]
        text = lines[line - 1]
        converted = f"__tq_element<decltype({name})>({text[first - 1 : end - 1]})"
        lines[line - 1] = text[: first - 1] + converted + text[end - 1 :]
        changed, before = True, (line, min(first, vector[1]) if vector[0] == line else first)
    return changed
