"""What a declaration in Metal text declares."""

from itertools import pairwise
from typing import NamedTuple

from tqgen_kernels.emulator.tokens import Token


def newlines(tokens: list[Token]) -> str:
    """The line ends among `tokens`, those that continue a directive with their backslash."""
    return "".join(
        token.text if token.text == "\\\n" else "\n" * token.text.count("\n") for token in tokens
    )


class Declaration(NamedTuple):
    """`T a[4], b, *p = a;`: the type, (name, "[N][M]") of each variable, and the pointers."""

    element: str
    variables: list[tuple[str, str]]
    pointers: list[str]


def declaration(code: list[Token]) -> Declaration | None:
    """What is declared; None for a function, an initialiser, or where a pointer comes first."""
    depth = brackets = angles = 0
    groups: list[list[Token]] = [[]]
    for token in code:
        if depth == 0 and token.text == ",":
            groups.append([])
            continue
        pointer = len(groups) > 1 and [t.text for t in groups[-1][:1]] == ["*"]
        starts = len(groups) > 1 and not groups[-1]
        if (
            depth == 0
            and token.text in ("*", "&", "=", "(")
            and not (pointer or (starts and token.text == "*"))
        ):
            return None
        brackets += {"[": 1, "(": 1, "]": -1, ")": -1, "[[": 2, "]]": -2}.get(token.text, 0)
        if not brackets:  # `[A > 1 ? 2 : 1]` compares
            angles += {"<": 1, ">": -1}.get(token.text, 0)
        depth = brackets + angles
        groups[-1].append(token)
    first = groups[0]
    name_at = _name_index(first)
    if name_at is None or name_at == 0:
        return None
    variables, pointers = [], []
    for group in [first[name_at:], *groups[1:]]:
        if group and group[0].text == "*":
            pointers.append(joined(group))
        elif group and group[0].kind == "name":
            variables.append((group[0].text, joined(group[1:])))
        else:
            return None
    return Declaration(joined(first[:name_at]), variables, pointers)


def joined(code: list[Token]) -> str:
    """Text of code tokens; a space only where two words would run together."""
    text = ""
    for token in code:
        if text and (text[-1].isalnum() or text[-1] == "_") and token.kind in ("name", "number"):
            text += " "
        text += token.text
    return text


def _name_index(group: list[Token]) -> int | None:
    """Index of the declared name: the last one outside <> and before the first [ at depth 0."""
    depth, found = 0, None
    for at, token in enumerate(group):
        if token.text == "<":
            depth += 1
        elif token.text == ">":
            depth -= 1
        elif depth == 0 and token.text in ("[", "[["):
            break
        elif depth == 0 and token.kind == "name":
            found = at
    return found


def type_names(tokens: list[Token]) -> frozenset[str]:
    """Names that `T(x)` may construct: template type parameters and aliases without pointers."""
    code = [token for token in tokens if token.is_code]
    names = set()
    for i, token in enumerate(code[:-2]):
        following = code[i + 1]
        if token.text in ("typename", "class") and following.kind == "name":
            if i and code[i - 1].text in ("<", ","):
                names.add(following.text)
        elif token.text == "using" and code[i + 2].text == "=":
            end = i
            while end < len(code) - 1 and code[end].text != ";":
                end += 1
            if not {"*", "&"} & {t.text for t in code[i:end]}:
                names.add(following.text)
        elif token.text == "typedef":
            end = i
            while end < len(code) - 1 and code[end].text != ";":
                end += 1
            if code[end - 1].kind == "name" and not {"*", "(", "["} & {t.text for t in code[i:end]}:
                names.add(code[end - 1].text)
    # A constructor's declaration looks like a call of the class.
    classes = {b.text for a, b in pairwise(code) if a.text == "struct"}
    return frozenset(names - classes)
