"""Splits Metal text into tokens without losing a character."""

import re
from collections.abc import Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|\\\n)
  | (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
  | (?P<number>(?:0[xXbB][0-9a-fA-F']+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?\d+)?
      |(?:\d[\d']*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[A-Za-z]*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<mark>::|->|<<|\[\[|\]\]|.)
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    kind: str  # space, comment, string, number, name or mark
    text: str

    @property
    def is_code(self) -> bool:
        return self.kind not in ("space", "comment")


def tokenize(text: str) -> list[Token]:
    """Tokens of `text`; their texts joined are `text` again."""
    return [Token(match.lastgroup or "mark", match.group()) for match in _TOKEN.finditer(text)]


def next_code(tokens: Sequence[Token], i: int) -> int:
    """Index of the first token from i on that is neither space nor comment."""
    while i < len(tokens) and not tokens[i].is_code:
        i += 1
    return i


def angle_end(tokens: Sequence[Token], i: int) -> int:
    """Index behind the `>` that closes the `<` at i, or i if it is none of a template."""
    depth, at, parentheses = 0, i, 0
    while at < len(tokens):
        text = tokens[at].text
        if text == "(":
            parentheses += 1
        elif text == ")":
            parentheses -= 1
        if parentheses == 0:
            if text == "<":
                depth += 1
            elif text == ">":
                depth -= 1
                if depth == 0:
                    return at + 1
        if text in (";", "{", "}") or parentheses < 0:
            return i
        at += 1
    return i
