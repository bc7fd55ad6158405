"""Turns Metal text into C++ for OpenCL where macros of the prelude cannot. Lines stay in place.

- ``threadgroup T x[N];`` becomes a reference into the memory of the running threadgroup.
- ``float4(a, b)`` and ``static_cast<T>(x)`` call a maker template: OpenCL has no such constructors.
- ``thread`` behind a member function, attributes in ``[[ ]]`` and Metal's includes are dropped.
- Literals ``0.5h`` and ``1.0bf`` become casts; ``long long`` is ``long``, of 64 bits.
- ``float4 v(a, b);`` is initialised with ``=``; ``(float4)x`` calls the maker, too.
- What a comparison of vectors yields becomes a vector of bool where that makes a difference.
"""

import re

from tqgen_kernels.emulator.comparisons import compares, groups
from tqgen_kernels.emulator.declarations import declaration, joined, newlines, type_names
from tqgen_kernels.emulator.tokens import Token, angle_end, next_code, tokenize

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
    return _Rewriter(tokens, type_names(tokens))


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
        self.scopes: list[bool] = []  # for each open brace: is it that of a function or block?
        self.declared: tuple[str, int] | None = None  # type of a declaration, its parentheses
        self.before: dict[int, str] = {}  # what is written before the token of an index

    def run(self) -> str:
        i = 0
        while i < len(self.tokens):
            token = self.tokens[i]
            if i in self.before:
                self.out.append(self.before.pop(i))
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
        elif token.text == "{":
            self.braces += 1
            self.scopes.append(self._opens_block())
        elif token.text == "}":
            self.braces -= 1
            if self.scopes:
                self.scopes.pop()
        elif token.text == ";":
            self.declared = None
        self.out.append(token.text)
        self.code.append(token.text)

    def _replace(self, i: int, token: Token) -> int:
        """Writes what stands for the tokens from i on; returns the next index, i for none."""
        previous = self.code[-1] if self.code else ";"
        if token.text == "[[":
            return self._drop_attribute(i)
        if token.kind == "number":
            return self._literal(i, token)
        if token.text == "(" and not self.swizzle_calls:
            return self._parenthesis(i, previous)
        if token.text == "," and self.declared and self.declared[1] == self.parentheses:
            return self._next_declared(i)
        if token.kind != "name":
            return i
        if self.swizzle_calls and previous == "." and _SWIZZLE.fullmatch(token.text):
            return self._swizzle(i, token)
        if token.text == "long" and previous == "long":
            return i + 1  # OpenCL's `long long` has 128 bits
        if token.text == "alignas" and (after := self._behind_alignas(i)) != i:
            return after
        if token.text == "threadgroup" and not self.parentheses and previous in _BEFORE_STATEMENT:
            return self._threadgroup_variable(i)
        if token.text == "thread" and self._qualifies_member(i, previous):
            return i + 1
        if token.text == "auto":
            self._compared(i)
            return i
        if token.text == "static_cast":
            return self._maker(i, i + 1, needs_angle=True, drop_type=True)
        if token.text == "reinterpret_cast":
            return self._reference_cast(i)
        if previous in ("operator", ".", "->", "struct", "class", "typename"):
            return i
        if token.text == "vec" and (after := self._bools(i)) != i:
            return after
        if token.text == "vec":
            return self._maker(i, i + 1, needs_angle=True)
        if _VECTOR.fullmatch(token.text) or token.text in self.makers:
            return self._maker(i, i + 1, needs_angle=False)
        return i

    def _text(self, i: int) -> str:
        return self.tokens[i].text if i < len(self.tokens) else ""

    def _drop_attribute(self, i: int) -> int:
        end, depth = i + 1, 1
        while end < len(self.tokens) and depth:
            depth += {"[[": 1, "]]": -1}.get(self.tokens[end].text, 0)
            end += 1
        self.out.append(newlines(self.tokens[i:end]))
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
        after = self._text(next_code(self.tokens, i + 1))
        return after in ("{", ";", ":", "=", "-", "->", "const") and (
            previous == ")"
            or (previous in ("const", "noexcept") and len(self.code) > 1 and self.code[-2] == ")")
        )

    def _maker(self, i: int, after: int, *, needs_angle: bool, drop_type: bool = False) -> int:
        start = next_code(self.tokens, after)
        if needs_angle:
            if self._text(start) != "<":
                return i
            end = angle_end(self.tokens, start)
            if end == start:
                return i
        else:
            end = after
        parenthesis = next_code(self.tokens, end)
        if not drop_type and self._initialised(i, end, parenthesis):
            return end
        inside = self._text(next_code(self.tokens, parenthesis + 1))
        if self._text(parenthesis) != "(" or inside == ")":
            return i
        previous = self.code[-1] if self.code else ""
        # A name between type and parenthesis never gets here; `T (&x)[4]` and `T (*p)` do.
        if inside in ("&", "*") and previous in (
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
        type_tokens = self.tokens[start + 1 : end - 1] if drop_type else self.tokens[i:end]
        if drop_type and any(t.text in ("*", "&") for t in type_tokens):
            return i
        name = "".join(t.text for t in type_tokens)
        if previous == "::" and len(self.code) > 1 and self.code[-2] == "metal":
            self._take_back("::")
            self._take_back("metal")
        self.out.append(f"__tq_make<{name}>")
        self.code.append("__tq_make")
        self._mark_comparisons(parenthesis)
        return end

    def _mark_comparisons(self, parenthesis: int) -> None:
        """Arguments that compare vectors arrive as vectors of bool."""
        if self.swizzle_calls:
            return
        for first, end in groups(self.tokens, parenthesis):
            if compares(self.tokens, first, end):
                self.before[first] = self.before.get(first, "") + "__tq_bools("
                self.before[end] = ")" + self.before.get(end, "")

    def _bools(self, i: int) -> int:
        """`vec<bool, N>` is a class; returns the index behind its comma, i for other vectors."""
        angle = next_code(self.tokens, i + 1)
        kind = next_code(self.tokens, angle + 1)
        comma = next_code(self.tokens, kind + 1)
        if self.swizzle_calls or [self._text(k) for k in (angle, kind, comma)] != [
            "<",
            "bool",
            ",",
        ]:
            return i
        self.out.append("bool_vec<")
        self.code += ["bool_vec", "<"]
        return comma + 1

    def _compared(self, i: int) -> None:
        """`auto m = a > b` has lanes of false and true."""
        equals = next_code(self.tokens, next_code(self.tokens, i + 1) + 1)
        first = next_code(self.tokens, equals + 1)
        if self.swizzle_calls or self._text(equals) != "=" or self._text(first) in ("[", "="):
            return
        end = first
        while end < len(self.tokens) and self._text(end) not in (";", "{", "}"):
            end += 1
        if self._text(end) == ";" and compares(self.tokens, first, end):
            self.before[first] = self.before.get(first, "") + "__tq_bools("
            self.before[end] = ")" + self.before.get(end, "")

    def _opens_block(self) -> bool:
        """Whether the brace at hand begins statements rather than members or a namespace."""
        at = len(self.code)
        while at and self.code[at - 1] not in (";", "{", "}"):
            at -= 1
        head = self.code[at:]
        if any(word in head for word in ("namespace", "extern")):
            return False
        members = any(word in head for word in ("struct", "class", "union", "enum"))
        return not members or "(" in head

    def _parenthesis(self, i: int, previous: str) -> int:
        """`(float4)x`, and a comparison of which components are taken."""
        operand = previous == "return" or not (
            previous in (")", "]", ">") or previous[-1:].isalnum() or previous[-1:] == "_"
        )
        if previous == ">" or operand:
            name = next_code(self.tokens, i + 1)
            end = name + 1
            if self._text(name) == "vec" and self._text(end) == "<":
                end = angle_end(self.tokens, end)
            close = next_code(self.tokens, end)
            known = _VECTOR.fullmatch(self._text(name)) or self._text(name) in self.makers
            if (known or end > name + 1) and self._text(close) == ")":
                behind = self.tokens[next_code(self.tokens, close + 1)]
                if behind.kind in ("name", "number") or behind.text in ("(", "-", "+", "~", "*"):
                    self.out.append(f"__tq_cast<{joined(self.tokens[name:end])}>() ->* ")
                    self.code.append("->*")
                    return close + 1
        if operand:
            inside = groups(self.tokens, i)
            if len(inside) == 1 and compares(self.tokens, *inside[0]):
                after = self._text(next_code(self.tokens, inside[0][1] + 1))
                if after in (".", "["):
                    self.out.append("__tq_bools")
        return i

    def _initialised(self, i: int, end: int, name: int) -> bool:
        """`float4 v(a, b)` in a function: writes `float4 v = ` and the maker."""
        parenthesis = next_code(self.tokens, name + 1)
        if (
            self.swizzle_calls
            or not (self.scopes and self.scopes[-1])
            or name >= len(self.tokens)
            or self.tokens[name].kind != "name"
            or self._text(name) == "operator"
            or self._text(parenthesis) != "("
            or self._text(next_code(self.tokens, parenthesis + 1)) == ")"
        ):
            return False
        self.declared = (joined([t for t in self.tokens[i:end] if t.is_code]), self.parentheses)
        self.out.append(joined([t for t in self.tokens[i:end] if t.is_code]))
        self.code.append("__tq_type")
        self._initialise(name, parenthesis)
        return True

    def _initialise(self, name: int, parenthesis: int) -> None:
        assert self.declared is not None
        self.before[parenthesis] = f" = __tq_make<{self.declared[0]}>"
        self._mark_comparisons(parenthesis)

    def _next_declared(self, i: int) -> int:
        """The next variable of `float4 v(a), w(b);`."""
        name = next_code(self.tokens, i + 1)
        parenthesis = next_code(self.tokens, name + 1)
        named = name < len(self.tokens) and self.tokens[name].kind == "name"
        if named and self._text(parenthesis) == "(":
            self._initialise(name, parenthesis)
        return i

    def _behind_alignas(self, i: int) -> int:
        """Index behind `alignas(..)` of a threadgroup variable, which is aligned anyway; else i."""
        inside = groups(self.tokens, next_code(self.tokens, i + 1))
        if not inside:
            return i
        after = next_code(self.tokens, inside[-1][1] + 1)
        return after if self._text(after) == "threadgroup" else i

    def _reference_cast(self, i: int) -> int:
        """`reinterpret_cast<T&>`: clang crashes on one between address spaces that convert."""
        start = next_code(self.tokens, i + 1)
        end = angle_end(self.tokens, start) if self._text(start) == "<" else start
        inside = [token for token in self.tokens[start + 1 : end - 1] if token.is_code]
        if end == start or not inside or inside[-1].text != "&":
            return i
        self.out.append(f"__tq_reinterpret<{joined(inside[:-1])}>")
        self.code.append("__tq_reinterpret")
        return end

    def _swizzle(self, i: int, token: Token) -> int:
        if self._text(next_code(self.tokens, i + 1)) == "(":
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
        start = next_code(self.tokens, i + 1)
        if self._text(start) == "alignas":
            start = groups(self.tokens, next_code(self.tokens, start + 1))[-1][1] + 1
        parsed = declaration([t for t in self.tokens[start:end] if t.is_code])
        if parsed is None or not self.braces:
            return i
        element, variables, pointers = parsed
        parts = []
        for name, dimensions in variables:
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
        parts += [f"threadgroup {element} {pointer}" for pointer in pointers]
        self.out.append("; ".join(parts) + newlines(self.tokens[i:end]))
        self.code.append("threadgroup")
        return end
