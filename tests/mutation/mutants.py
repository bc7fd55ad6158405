"""Small faults of the kind that authors make, seeded into a Metal text one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tqgen_kernels.emulator.checker.scopes import Placed, placed_tokens

Part = Literal["header", "source"]
Edit = tuple[str, int, int, str]  # operator, first and last token, what replaces them

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
ARITHMETIC = {"+": "-", "-": "+", "*": "+", "/": "*", "%": "/"}
ASSIGNMENTS = {"+=": "-=", "-=": "+=", "*=": "+=", "|=": "&=", "^=": "|="}
SHIFTS = {"<<": ">>", ">>": "<<"}
MASKS = {"&": "|", "|": "&", "^": "|"}
LOGIC = {"&&": "||", "||": "&&"}
FUNCTIONS = {
    "min": "max",
    "max": "min",
    "exp2": "exp",
    "rsqrt": "sqrt",
    "simd_max": "simd_min",
    "simd_sum": "simd_max",
    "simd_all": "simd_any",
    "simd_shuffle_xor": "simd_shuffle_down",
    "simd_shuffle": "simd_shuffle_xor",
}
LANES = ("thread_index_in_simdgroup", "lane")
BARRIERS = ("threadgroup_barrier", "simdgroup_barrier")
_OPERAND = ("name", "number")


@dataclass(frozen=True)
class Mutant:
    """One change: `before` became `after` at a line of the header or the source."""

    operator: str
    part: Part
    line: int
    before: str
    after: str
    text: str  # the whole part, changed

    @property
    def summary(self) -> str:
        return f"{self.operator}: {self.part} {self.line}: `{self.before}` -> `{self.after}`"


def mutants_of(header: str, source: str) -> list[Mutant]:
    """Every mutant of a kernel, in the order of the text."""
    parts: tuple[tuple[Part, str], ...] = (("header", header), ("source", source))
    return [mutant for part, text in parts for mutant in _mutants(part, text)]


def _mutants(part: Part, text: str) -> Iterator[Mutant]:
    tokens = _joined(placed_tokens(text))
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    for i, token in enumerate(tokens):
        if part == "header" and not {"function", "kernel"} & set(token.scopes):
            continue
        for operator, first, last, replacement in _edits(tokens, i):
            begin = starts[tokens[first].line - 1] + tokens[first].column - 1
            end = starts[tokens[last].line - 1] + tokens[last].column - 1 + len(tokens[last].text)
            before = text[begin:end]
            changed = text[:begin] + replacement + text[end:]
            yield Mutant(operator, part, token.line, before, replacement, changed)


def _joined(tokens: list[Placed]) -> list[Placed]:
    """Operators of two characters as one token."""
    two = {*COMPARISONS, *ASSIGNMENTS, *SHIFTS, *LOGIC, "++", "--", "/=", "%=", "<<=", ">>="}
    joined: list[Placed] = []
    for token in tokens:
        last = joined[-1] if joined else None
        if (
            last
            and last.text + token.text in two
            and (last.line, last.column + len(last.text)) == (token.line, token.column)
        ):
            joined[-1] = Placed(
                last.text + token.text, "mark", last.line, last.column, last.scopes,
                last.parentheses,
            )  # fmt: skip
        else:
            joined.append(token)
    return joined


def _edits(tokens: list[Placed], i: int) -> Iterator[Edit]:
    text = tokens[i].text
    before = tokens[i - 1] if i else None
    after = tokens[i + 1] if i + 1 < len(tokens) else None
    if text in BARRIERS and after and after.text == "(":
        end = _closing(tokens, i + 1)
        yield "barrier removed", i, end, "((void)0)"
        yield "barrier weakened", i, end, f"{text}(mem_flags::mem_none)"
    elif text in FUNCTIONS and after and after.text == "(":
        yield "other function", i, i, FUNCTIONS[text]
    elif text in LANES and after and after.text != "=":
        yield "wrong lane", i, i, f"({text} ^ 1)"
    elif tokens[i].kind == "number" and re.fullmatch(r"\d+u?", text):
        yield from _number(tokens, i)
    elif before and after and _is_operand_end(before) and _is_operand_start(after):
        yield from _binary(tokens, i)
    if text in ASSIGNMENTS and before and after:
        yield "other assignment", i, i, ASSIGNMENTS[text]
        yield "assignment dropped", i, _statement_end(tokens, i), "+= 0"


def _binary(tokens: list[Placed], i: int) -> Iterator[Edit]:
    text = tokens[i].text
    spaced = tokens[i - 1].column + len(tokens[i - 1].text) < tokens[i].column
    if text in COMPARISONS and spaced and tokens[i - 1].text != "template":
        yield "bound off by one", i, i, COMPARISONS[text]
    elif text in SHIFTS:
        yield "shift reversed", i, i, SHIFTS[text]
    elif text in MASKS and spaced:
        yield "mask", i, i, MASKS[text]
    elif text in LOGIC:
        yield "logic", i, i, LOGIC[text]
    elif text in ARITHMETIC and spaced:
        yield "other operator", i, i, ARITHMETIC[text]
        simple = tokens[i - 1].kind in _OPERAND and tokens[i + 1].kind in _OPERAND
        neighbours = tokens[i - 2].text if i > 1 else ";", tokens[min(i + 2, len(tokens) - 1)].text
        if text in "-/%" and simple and not {*neighbours} & {".", "[", "(", "::", "*", "/", "%"}:
            yield (
                "operands swapped",
                i - 1,
                i + 1,
                (f"{tokens[i + 1].text} {text} {tokens[i - 1].text}"),
            )


def _number(tokens: list[Placed], i: int) -> Iterator[Edit]:
    """One more, one less; not a template argument and not an initial 0."""
    before = tokens[i - 1].text if i else ""
    after = tokens[i + 1].text if i + 1 < len(tokens) else ""
    if before == "<" and after == ">":
        return
    suffix = "u" if tokens[i].text.endswith("u") else ""
    value = int(tokens[i].text.rstrip("u"))
    yield "constant off by one", i, i, f"{value + 1}{suffix}"
    if value > 1:
        yield "constant off by one", i, i, f"{value - 1}{suffix}"


def _is_operand_end(token: Placed) -> bool:
    return token.kind in _OPERAND or token.text in (")", "]")


def _is_operand_start(token: Placed) -> bool:
    return token.kind in _OPERAND or token.text in ("(", "-", "*", "!")


def _closing(tokens: list[Placed], i: int) -> int:
    depth = 0
    for at in range(i, len(tokens)):
        depth += {"(": 1, ")": -1}.get(tokens[at].text, 0)
        if depth == 0:
            return at
    return len(tokens) - 1


def _statement_end(tokens: list[Placed], i: int) -> int:
    """The last token before the `;` or the `)` that ends an assignment."""
    depth = 0
    for at in range(i, len(tokens)):
        if depth == 0 and tokens[at].text in (";", ")"):
            return at - 1
        depth += {"(": 1, ")": -1}.get(tokens[at].text, 0)
    return len(tokens) - 1
