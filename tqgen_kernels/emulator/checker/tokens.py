"""Rules of Metal that the tokens of a text are enough for."""

import re
from collections.abc import Iterator

from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
from tqgen_kernels.emulator.checker.scopes import Placed, placed_tokens
from tqgen_kernels.emulator.checker.versions import for_version

NEWEST_COMMON = (3, 1)  # what macOS 14 compiles

_FORBIDDEN = {
    "goto": ("goto", "Metal has no goto"),
    "virtual": ("virtual", "Metal has no virtual functions"),
    "throw": ("exceptions", "Metal has no exceptions"),
    "try": ("exceptions", "Metal has no exceptions"),
    "catch": ("exceptions", "Metal has no exceptions"),
    "dynamic_cast": ("rtti", "Metal has no dynamic_cast"),
    "typeid": ("rtti", "Metal has no typeid"),
    "thread_local": ("storage", "Metal has no thread_local; a local variable is each thread's own"),
    "register": ("storage", "Metal has no register storage"),
}
_DOUBLE = re.compile(r"(packed_)?double([2-4](x[2-4])?)?")

_NOT_ATOMIC = (
    *("half", "float16_t", "bfloat", "bfloat16_t", "char", "uchar", "int8_t", "uint8_t"),
    *("short", "ushort", "int16_t", "uint16_t", "long", "int64_t", "complex64_t"),
)

# Names that came after Metal 3.1, and the version that brought them.
_SINCE = {
    "atomic_thread_fence": (3, 2),
    "thread_scope": (3, 2),
    "thread_scope_simdgroup": (3, 2),
    "thread_scope_threadgroup": (3, 2),
    "thread_scope_device": (3, 2),
    "thread_scope_system": (3, 2),
    "memory_order_acquire": (3, 2),
    "memory_order_release": (3, 2),
    "memory_order_acq_rel": (3, 2),
    "memory_order_seq_cst": (3, 2),
    "os_log": (3, 2),
    "os_log_default": (3, 2),
    "coherent": (3, 2),
    "tensor_handle": (4, 0),
    "tensor_inline": (4, 0),
    "cooperative_tensor": (4, 0),
    "dextents": (4, 0),
    "mpp": (4, 0),
}
_MACOS = {(3, 2): "macOS 15", (4, 0): "macOS 26"}
_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*<([^>\n]*)>", re.M)
_STATEMENT_ENDS = (";", "{", "}", ")", ":", "else")


def check_tokens(text: str, msl: tuple[int, int] = NEWEST_COMMON) -> list[Diagnostic]:
    """Diagnostics of `text` for Metal version `msl`."""
    text = for_version(text, msl)
    tokens = placed_tokens(text)
    return [
        *_includes(text, msl),
        *_words(tokens, msl),
        *_static_locals(tokens),
        *_threadgroup_variables(tokens),
        *_lambdas(tokens, msl),
    ]


def _error(token: Placed, rule: str, message: str) -> Diagnostic:
    return Diagnostic(token.line, token.column, "error", rule, message)


def _too_new(line: int, column: int, what: str, since: tuple[int, int]) -> Diagnostic:
    major, minor = since
    return Diagnostic(
        line,
        column,
        "error",
        "metal-version",
        f"{what} needs Metal {major}.{minor} ({_MACOS[since]} or newer)",
    )


def _includes(text: str, msl: tuple[int, int]) -> Iterator[Diagnostic]:
    for match in _INCLUDE.finditer(text):
        header = match[1]
        line = text.count("\n", 0, match.start()) + 1
        column = match.start(1) - text.rfind("\n", 0, match.start(1))
        if header == "metal_logging" and msl < (3, 2):
            yield _too_new(line, column, f"<{header}>", (3, 2))
        elif header in ("metal_tensor", "metal_cooperative_tensor") or header.startswith(
            "MetalPerformancePrimitives"
        ):
            if msl < (4, 0):
                yield _too_new(line, column, f"<{header}>", (4, 0))
        elif not header.startswith(("metal_", "simd/", "TargetConditionals")):
            message = f"<{header}> is not there: Metal has no C or C++ standard library"
            yield Diagnostic(line, column, "error", "standard-library", message)


def _words(tokens: list[Placed], msl: tuple[int, int]) -> Iterator[Diagnostic]:
    for i, token in enumerate(tokens):
        before = tokens[i - 1].text if i else ";"
        after = tokens[i + 1].text if i + 1 < len(tokens) else ";"
        if token.kind != "name" or before in (".", "->"):
            continue
        if token.text in _FORBIDDEN:
            yield _error(token, *_FORBIDDEN[token.text])
        elif _DOUBLE.fullmatch(token.text):
            yield _error(token, "double", f"Metal has no {token.text}; use float")
        elif token.text == "new" and before != "operator":
            yield _error(token, "new", "Metal has no new: memory cannot be allocated in a kernel")
        elif token.text == "delete" and before not in ("operator", "="):
            yield _error(token, "new", "Metal has no delete")
        elif token.text == "std" and (after == "::" or before == "namespace"):
            what = "".join(t.text for t in tokens[i : i + 3])
            message = f"{what}: Metal has no C++ standard library; most of it is in metal::"
            yield _error(token, "standard-library", message)
        elif token.text == "function_constant" and before == "[":
            message = "mx.fast.metal_kernel cannot set function constants: use a template parameter"
            yield _error(token, "program-scope", message)
        elif (
            token.text in ("atomic", "_atomic")
            and after == "<"
            and tokens[i + 2].text in _NOT_ATOMIC
        ):
            message = (
                f"Metal has no atomic<{tokens[i + 2].text}>: only int, uint, ulong, bool, float"
            )
            yield _error(token, "atomic-type", message)
        elif _SINCE.get(token.text, (1, 0)) > msl and not (
            _declares(before, after) or (before == "::" and tokens[i - 2].text != "metal")
        ):
            yield _too_new(token.line, token.column, token.text, _SINCE[token.text])


def _declares(before: str, after: str) -> bool:
    """Whether the author gives a thing of his own this name: `float coherent = ...`."""
    return after in ("=", ";", ",", "[") and before not in (";", "{", "}", "(", ",", "=", "::", ":")


def _static_locals(tokens: list[Placed]) -> Iterator[Diagnostic]:
    for i, token in enumerate(tokens):
        if token.text != "static" or token.scope not in ("function", "kernel"):
            continue
        statement = _until(tokens, i + 1, ";")
        words = {t.text for t in statement}
        if not {"constant", "constexpr"} & words:
            message = "Metal has no static local variables; only constants may be static"
            yield _error(token, "static-local", message)


def _threadgroup_variables(tokens: list[Placed]) -> Iterator[Diagnostic]:
    for i, token in enumerate(tokens):
        before = tokens[i - 1].text if i else ";"
        if token.text != "threadgroup" or token.parentheses or before not in _STATEMENT_ENDS:
            continue
        statement = _until(tokens, i + 1, ";", "{")
        declared = _outside_brackets(statement)
        names = {t.text for t in declared}
        if {"*", "&", "(", "operator"} & names or not declared:
            continue  # a pointer, a reference or a function
        name = declared[-1] if "=" not in names else declared[[*_texts(declared)].index("=") - 1]
        if token.scope in ("function", "file", "record"):
            where = {
                "function": "in a function that is no kernel",
                "file": "at program scope",
                "record": "as a member",
            }[token.scope]
            message = (
                f"threadgroup variable '{name.text}' {where}: declare it in the kernel "
                "and pass a pointer to it"
            )
            yield _error(token, "threadgroup-variable", message)
        elif "=" in names or _next_is(tokens, i, statement, "{"):
            message = f"threadgroup variable '{name.text}' cannot have an initialiser"
            yield _error(name, "threadgroup-initialiser", message)


def _lambdas(tokens: list[Placed], msl: tuple[int, int]) -> Iterator[Diagnostic]:
    if msl >= (3, 2):
        return
    for i, token in enumerate(tokens):
        if token.text != "[" or token.scope not in ("function", "kernel"):
            continue
        before = tokens[i - 1]
        if before.text in (")", "]", ">", "operator", "delete", "&", "*") or (
            before.kind in ("name", "number", "string") and before.text != "return"
        ):
            continue
        inside = _until(tokens, i + 1, "]")
        close = i + 1 + len(inside)
        if close + 1 < len(tokens) and tokens[close + 1].text in ("(", "{", "<"):
            yield _too_new(token.line, token.column, "a lambda expression", (3, 2))


def _until(tokens: list[Placed], start: int, *ends: str) -> list[Placed]:
    """Tokens from `start` to before the first of `ends` at the same depth of braces."""
    depth = len(tokens[start].scopes) if start < len(tokens) else 0
    for end in range(start, len(tokens)):
        if tokens[end].text in ends and len(tokens[end].scopes) == depth:
            return tokens[start:end]
    return tokens[start:]


def _outside_brackets(tokens: list[Placed]) -> list[Placed]:
    """Without template arguments, array sizes and attributes."""
    kept, depth = [], 0
    for token in tokens:
        if token.text in ("<", "["):
            depth += 1
        elif token.text in (">", "]") and depth:
            depth -= 1
        elif not depth:
            if token.text == "=":
                kept.append(token)
                break
            kept.append(token)
    return kept


def _texts(tokens: list[Placed]) -> Iterator[str]:
    return (token.text for token in tokens)


def _next_is(tokens: list[Placed], i: int, statement: list[Placed], text: str) -> bool:
    at = i + 1 + len(statement)
    return at < len(tokens) and tokens[at].text == text
