"""Which kind of braces every token of a Metal text stands in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tqgen_kernels.emulator.tokens import Token, tokenize

Scope = Literal["file", "record", "function", "kernel", "enum", "initialiser"]

_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)


@dataclass(frozen=True, slots=True)
class Placed:
    """A token of code. `scopes` are the braces around it, `parentheses` those inside the last."""

    text: str
    kind: str
    line: int
    column: int
    scopes: tuple[Scope, ...]
    parentheses: int

    @property
    def scope(self) -> Scope:
        return self.scopes[-1]


def without_directives(text: str) -> str:
    """`text` with its preprocessor lines blank, so that macros are not taken for code."""
    return _DIRECTIVE.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def placed_tokens(text: str) -> list[Placed]:
    """The tokens of `text` without comments and preprocessor lines, with where they stand."""
    placed: list[Placed] = []
    scopes: list[Scope] = ["file"]
    parentheses = [0]
    head: list[Placed] = []  # since the last ; { or } outside parentheses
    line, column = 1, 1
    for token in _single_brackets(tokenize(without_directives(text))):
        if token.is_code:
            here = Placed(token.text, token.kind, line, column, tuple(scopes), parentheses[-1])
            if token.text == "(":
                parentheses[-1] += 1
            elif token.text == ")":
                parentheses[-1] = max(0, parentheses[-1] - 1)
            elif token.text == "{":
                scopes.append(_opened(head, scopes[-1], parentheses[-1]))
                parentheses.append(0)
                head = []
            elif token.text == "}" and len(scopes) > 1:
                scopes.pop()
                parentheses.pop()
                here = Placed("}", token.kind, line, column, tuple(scopes), parentheses[-1])
                head = []
            placed.append(here)
            if token.text not in "{}":
                head = [] if token.text == ";" and not parentheses[-1] else [*head, here]
        newlines = token.text.count("\n")
        line += newlines
        column = len(token.text) - token.text.rfind("\n") if newlines else column + len(token.text)
    return placed


def _single_brackets(tokens: list[Token]) -> Iterator[Token]:
    """`x[y[0]]` ends in two brackets, not in one double bracket."""
    for token in tokens:
        if token.text in ("[[", "]]"):
            yield from (Token(token.kind, token.text[0]),) * 2
        else:
            yield token


def _opened(head: list[Placed], outer: Scope, parentheses: int) -> Scope:
    """The scope that a brace behind `head` opens."""
    if outer in ("function", "kernel", "initialiser", "enum"):
        names = [token.text for token in head]
        local_record = {"struct", "class", "union"} & set(names[:1])
        return "record" if local_record and "(" not in names else outer
    if parentheses:  # a braced argument
        return "initialiser"
    names = [token.text for token in head]
    if "=" in names and "operator" not in names:
        after_template = names[names.index(">") :] if names[:1] == ["template"] else names
        if "=" in after_template and ")" not in after_template[: after_template.index("=")]:
            return "initialiser"
    if "enum" in names:
        return "enum"
    if ")" in names:
        return "kernel" if "kernel" in names else "function"
    if {"struct", "class", "union"} & set(names):
        return "record"
    return "file" if {"namespace", "extern"} & set(names) or not names else "initialiser"
