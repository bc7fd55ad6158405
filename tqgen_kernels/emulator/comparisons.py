"""Where Metal text compares vectors: OpenCL yields lanes of 0 and -1, Metal of false and true."""

from collections.abc import Sequence

from tqgen_kernels.emulator.tokens import Token, angle_end, next_code

_OPEN, _CLOSE = ("(", "[", "{"), (")", "]", "}")
_TWO = ("==", "!=", "<=", ">=", "&&", "||")


def groups(tokens: Sequence[Token], start: int) -> list[tuple[int, int]]:
    """(first, end) of each argument behind the parenthesis at `start`; none if it stays open."""
    depth, at, first = 0, start, start + 1
    found = []
    while at < len(tokens):
        text = tokens[at].text
        if text == "<" and (end := angle_end(tokens, at)) != at and _is_template(tokens, end):
            at = end
            continue
        if text in _OPEN:
            depth += 1
        elif text in _CLOSE:
            depth -= 1
            if depth == 0:
                found.append((first, at))
                return found
        elif text == "," and depth == 1:
            found.append((first, at))
            first = at + 1
        elif text == ";":
            break
        at += 1
    return []


def compares(tokens: Sequence[Token], first: int, end: int) -> bool:
    """Whether the outermost operation of an expression may be a comparison."""
    depth, at, found = 0, first, False
    while at < end:
        token = tokens[at]
        two = token.text + (tokens[at + 1].text if at + 1 < end else "")
        if token.text in _OPEN:
            depth += 1
        elif token.text in _CLOSE:
            depth -= 1
        elif depth or not token.is_code:
            pass
        elif token.text == "?":
            return False
        elif two in _TWO:
            found = True
            at += 1
        elif two == ">>":
            at += 1
        elif token.text == "<":
            after = angle_end(tokens, at)
            if after != at and _is_template(tokens, after):
                at = after
                continue
            found = True
        elif token.text == ">":
            found = True
        at += 1
    return found


def _is_template(tokens: Sequence[Token], behind: int) -> bool:
    at = next_code(tokens, behind)
    return at < len(tokens) and tokens[at].text in ("(", "::", "{", ")", ",", ">")
