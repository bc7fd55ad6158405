"""What a declaration in Metal text declares."""

from tqgen_kernels.emulator.tokens import Token


def newlines(tokens: list[Token]) -> str:
    """The line ends among `tokens`, those that continue a directive with their backslash."""
    return "".join(
        token.text if token.text == "\\\n" else "\n" * token.text.count("\n") for token in tokens
    )


def declarators(code: list[Token]) -> tuple[str, list[tuple[str, str]]] | None:
    """Type and (name, "[N][M]") of each variable; None for a pointer, reference or function."""
    depth = 0
    groups: list[list[Token]] = [[]]
    for token in code:
        if depth == 0 and token.text in ("*", "&", "=", "("):
            return None
        if depth == 0 and token.text == ",":
            groups.append([])
            continue
        depth += {"<": 1, "[": 1, "(": 1, ">": -1, "]": -1, ")": -1, "[[": 2, "]]": -2}.get(
            token.text, 0
        )
        groups[-1].append(token)
    first = groups[0]
    name_at = _name_index(first)
    if name_at is None or name_at == 0:
        return None
    element = joined(first[:name_at])
    result = []
    for group in [first[name_at:], *groups[1:]]:
        if not group or group[0].kind != "name":
            return None
        result.append((group[0].text, joined(group[1:])))
    return element, result


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
