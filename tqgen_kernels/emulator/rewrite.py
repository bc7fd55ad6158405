"""Turns Metal text into C++ for OpenCL where macros of the prelude cannot. Lines stay in place.

- ``threadgroup T x[N];`` becomes a reference into the memory of the running threadgroup.
- ``float4(a, b)`` and ``static_cast<T>(x)`` call a maker template: OpenCL has no such constructors.
- ``thread`` behind a member function, attributes in ``[[ ]]`` and Metal's includes are dropped.
- Literals ``0.5h`` and ``1.0bf`` become casts; ``long long`` is ``long``, of 64 bits.
"""

import re
from itertools import pairwise

from tqgen_kernels.emulator.tokens import Token, tokenize

_INCLUDE = re.compile(
    r'^[ \t]*#[ \t]*include[ \t]*(<metal_\w+>|<simd/\w+\.h>|"mlx/[^"]*")[^\n]*', re.M
)
_VECTOR = re.compile(
    r"(u?char|u?short|u?int|u?long|half|float|bfloat|bool|packed_\w+)[234]|(half|bfloat)(16_t)?|float16_t"
)
_HALF = re.compile(r"(?P<value>[0-9.][0-9a-fA-FxX.eEpP+-]*?)(?P<suffix>h|H|bf|BF)")
_SWIZZLE = re.compile(r"[xyzw]{2,4}|[rgba]{2,4}")
_BEFORE_STATEMENT = (";", "{", "}", ")", "else", ":")


def rewrite(text: str, *, swizzle_calls: bool = False) -> str:
    """C++ for OpenCL with the meaning of `text`, line for line.

    `swizzle_calls` makes `v.zyx` a call of a template, for a compiler without such members.
    """
    rewriter = _rewritten(text)
    rewriter.swizzle_calls = swizzle_calls
    return rewriter.run()


def threadgroup_variables(text: str) -> tuple[str, ...]:
    """Names of the variables whose declarations `rewrite` numbered, from 1."""
    rewriter = _rewritten(text)
    rewriter.run()
    return tuple(rewriter.variables)


def _rewritten(text: str) -> "_Rewriter":
    tokens = tokenize(_INCLUDE.sub("", text))
    return _Rewriter(tokens, _type_names(tokens))


def _type_names(tokens: list[Token]) -> frozenset[str]:
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


class _Rewriter:
    """One pass over the tokens, writing `out`."""

    def __init__(self, tokens: list[Token], makers: frozenset[str]) -> None:
        self.tokens = tokens
        self.makers = makers
        self.out: list[str] = []
        self.code: list[str] = []  # code tokens before the current one
        self.swizzle_calls = False
        self.parentheses = 0
        self.braces = 0
        self.variables: list[str] = []  # threadgroup variables by declaration, from 1

    def run(self) -> str:
        i = 0
        while i < len(self.tokens):
            token = self.tokens[i]
            if not token.is_code:
                self.out.append(token.text)
                i += 1
                continue
            step = self._replace(i, token)
            if step == i:
                self._keep(token)
                step = i + 1
            i = step
        return "".join(self.out)

    def _keep(self, token: Token) -> None:
        if token.text == "(":
            self.parentheses += 1
        elif token.text == ")":
            self.parentheses -= 1
        elif token.text in "{}":
            self.braces += 1 if token.text == "{" else -1
        self.out.append(token.text)
        self.code.append(token.text)

    def _replace(self, i: int, token: Token) -> int:
        """Writes what stands for the tokens from i on; returns the next index, i for none."""
        previous = self.code[-1] if self.code else ";"
        if token.text == "[[":
            return self._drop_attribute(i)
        if token.kind == "number":
            return self._literal(i, token)
        if token.kind != "name":
            return i
        if self.swizzle_calls and previous == "." and _SWIZZLE.fullmatch(token.text):
            return self._swizzle(i, token)
        if token.text == "long" and previous == "long":
            return i + 1  # OpenCL's `long long` has 128 bits
        if token.text == "threadgroup" and not self.parentheses and previous in _BEFORE_STATEMENT:
            return self._threadgroup_variable(i)
        if token.text == "thread" and self._qualifies_member(i, previous):
            return i + 1
        if token.text == "static_cast":
            return self._maker(i, i + 1, needs_angle=True, drop_type=True)
        if token.text == "reinterpret_cast":
            return self._reference_cast(i)
        if previous in ("operator", ".", "->", "struct", "class", "typename"):
            return i
        if token.text == "vec":
            return self._maker(i, i + 1, needs_angle=True)
        if _VECTOR.fullmatch(token.text) or token.text in self.makers:
            return self._maker(i, i + 1, needs_angle=False)
        return i

    def _next_code(self, i: int) -> int:
        while i < len(self.tokens) and not self.tokens[i].is_code:
            i += 1
        return i

    def _text(self, i: int) -> str:
        return self.tokens[i].text if i < len(self.tokens) else ""

    def _drop_attribute(self, i: int) -> int:
        end, depth = i + 1, 1
        while end < len(self.tokens) and depth:
            depth += {"[[": 1, "]]": -1}.get(self.tokens[end].text, 0)
            end += 1
        self.out.append(_newlines(self.tokens[i:end]))
        return end

    def _literal(self, i: int, token: Token) -> int:
        wide = re.fullmatch(r"(.*?[^lLuU])([uU]?)(?:ll|LL)([uU]?)", token.text)
        if wide:
            self._keep(Token("number", f"{wide[1]}{wide[2]}l{wide[3]}"))
            return i + 1
        match = _HALF.fullmatch(token.text)
        if not match or token.text[:2] in ("0x", "0X"):
            return i
        kind = "half" if match["suffix"] in "hH" else "bfloat"
        value = match["value"]
        suffix = "f" if any(c in value for c in ".eE") else ".0f"
        replacement = Token("number", f"(({kind}){value}{suffix})")
        self._keep(replacement)
        return i + 1

    def _qualifies_member(self, i: int, previous: str) -> bool:
        after = self._text(self._next_code(i + 1))
        return after in ("{", ";", ":", "=", "-", "->", "const") and (
            previous == ")"
            or (previous in ("const", "noexcept") and len(self.code) > 1 and self.code[-2] == ")")
        )

    def _angle_end(self, i: int) -> int:
        """Index behind the `>` that closes the `<` at i, or i if it is none of a template."""
        depth, at, parentheses = 0, i, 0
        while at < len(self.tokens):
            text = self.tokens[at].text
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

    def _maker(self, i: int, after: int, *, needs_angle: bool, drop_type: bool = False) -> int:
        start = self._next_code(after)
        if needs_angle:
            if self._text(start) != "<":
                return i
            end = self._angle_end(start)
            if end == start:
                return i
        else:
            end = after
        parenthesis = self._next_code(end)
        if self._text(parenthesis) != "(" or self._text(self._next_code(parenthesis + 1)) == ")":
            return i
        previous = self.code[-1] if self.code else ""
        # A name between type and parenthesis never gets here; `T (&x)[4]` and `T (*p)` do.
        if self._text(self._next_code(parenthesis + 1)) in ("&", "*") and previous in (
            "device",
            "threadgroup",
            "constant",
            "thread",
            "const",
            ";",
            "{",
            "}",
        ):
            return i
        inside = self.tokens[start + 1 : end - 1] if drop_type else self.tokens[i:end]
        if drop_type and any(t.text in ("*", "&") for t in inside):
            return i
        name = "".join(t.text for t in inside)
        if previous == "::" and len(self.code) > 1 and self.code[-2] == "metal":
            self._take_back("::")
            self._take_back("metal")
        self.out.append(f"__tq_make<{name}>")
        self.code.append("__tq_make")
        return end

    def _reference_cast(self, i: int) -> int:
        """`reinterpret_cast<T&>`: clang crashes on one between address spaces that convert."""
        start = self._next_code(i + 1)
        end = self._angle_end(start) if self._text(start) == "<" else start
        inside = [token for token in self.tokens[start + 1 : end - 1] if token.is_code]
        if end == start or not inside or inside[-1].text != "&":
            return i
        self.out.append(f"__tq_reinterpret<{_joined(inside[:-1])}>")
        self.code.append("__tq_reinterpret")
        return end

    def _swizzle(self, i: int, token: Token) -> int:
        if self._text(self._next_code(i + 1)) == "(":
            return i
        components = ", ".join(str("xyzwrgba".index(c) % 4) for c in token.text)
        self.out.append(f"template __swizzle<{components}>()")
        self.code.append("__swizzle")
        return i + 1

    def _take_back(self, text: str) -> None:
        self.code.pop()
        at = len(self.out) - 1
        while self.out[at] != text:
            at -= 1
        self.out[at] = ""

    def _threadgroup_variable(self, i: int) -> int:
        end = i + 1
        while end < len(self.tokens) and self.tokens[end].text != ";":
            if self.tokens[end].text in ("{", "}"):
                return i
            end += 1
        parsed = _declarators([t for t in self.tokens[i + 1 : end] if t.is_code])
        if parsed is None or not self.braces:
            return i
        element, declarators = parsed
        parts = []
        for name, dimensions in declarators:
            self.variables.append(name)
            address = (
                f"tq_threadgroup_variable({len(self.variables)}, sizeof({element}{dimensions}), "
                f"sizeof({element}), alignof({element}), __LINE__)"
            )
            reference = f"(&{name}){dimensions}" if dimensions else f"&{name}"
            pointer = f"(*){dimensions}" if dimensions else "*"
            parts.append(
                f"threadgroup {element} {reference} = *(threadgroup {element}{pointer}){address}"
            )
        self.out.append("; ".join(parts) + _newlines(self.tokens[i:end]))
        self.code.append("threadgroup")
        return end


def _newlines(tokens: list[Token]) -> str:
    """The line ends among `tokens`, those that continue a directive with their backslash."""
    return "".join(
        token.text if token.text == "\\\n" else "\n" * token.text.count("\n") for token in tokens
    )


def _declarators(code: list[Token]) -> tuple[str, list[tuple[str, str]]] | None:
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
    element = _joined(first[:name_at])
    result = []
    for group in [first[name_at:], *groups[1:]]:
        if not group or group[0].kind != "name":
            return None
        result.append((group[0].text, _joined(group[1:])))
    return element, result


def _joined(code: list[Token]) -> str:
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
