"""Rules of Metal that need clang's syntax tree: address spaces, conversions, recursion."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tqgen_kernels.emulator.checker.diagnostic import Diagnostic

_FUNCTIONS = ("FunctionDecl", "CXXMethodDecl")
_CASTS = ("CStyleCastExpr", "CXXStaticCastExpr", "CXXReinterpretCastExpr", "CXXConstCastExpr")
_TEMPLATES = ("FunctionTemplateDecl", "ClassTemplateDecl", "VarTemplateDecl")
_PROGRAM_SCOPE = ("TranslationUnitDecl", "NamespaceDecl", "LinkageSpecDecl", "CXXRecordDecl")
_POINTEE = re.compile(r"__generic\b[^*&()]*[*&]")


@dataclass
class _Walk:
    """Where the walk is. clang leaves out a line that equals the one printed before."""

    line: int = 0
    column: int = 0
    first: dict[str, str] = field(default_factory=dict)  # declaration -> first one of its function
    functions: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    calls: dict[str, set[str]] = field(default_factory=dict)
    found: list[Diagnostic] = field(default_factory=list)


def check_tree(tree: dict[str, Any], text: str) -> list[Diagnostic]:
    """Diagnostics for the syntax tree of `text`."""
    walk = _Walk()
    _visit(walk, tree, "", None, False, text.split("\n"))
    return [*walk.found, *_recursion(walk)]


def _visit(
    walk: _Walk,
    node: dict[str, Any],
    parent: str,
    function: str | None,
    instance: bool,
    lines: list[str],
) -> None:
    kind = node.get("kind", "")
    line, column = _place(walk, node)
    instance = instance or bool(node.get("isImplicit"))
    if not instance and line:
        source = lines[line - 1] if line <= len(lines) else ""
        walk.found += _spaces(node, kind, line, column, source)
        walk.found += _program_scope(node, kind, parent, line, column)
    if line:
        walk.found += _conversion(node, kind, line, column)
        walk.found += _shift(node, kind, line, column)
    if kind in _FUNCTIONS:
        function = node.get("previousDecl", node["id"])
        function = walk.first.setdefault(node["id"], walk.first.get(function, function))
        if any(child.get("kind") == "CompoundStmt" for child in node.get("inner", ())):
            walk.functions[function] = (node.get("name", ""), line, column)
    callee = node.get("referencedMemberDecl") or (
        node.get("referencedDecl", {}).get("id") if kind == "DeclRefExpr" else None
    )
    if function and callee:
        walk.calls.setdefault(function, set()).add(walk.first.get(callee, callee))
    patterns = 0
    for child in node.get("inner", ()):
        if not isinstance(child, dict) or not child:
            continue
        # The first declaration of a template is its text; the others are instances of it.
        declared = kind in _TEMPLATES and child.get("kind", "").endswith("Decl")
        pattern = declared and not child["kind"].startswith(("TemplateT", "NonType"))
        _visit(walk, child, kind, function, instance or (pattern and patterns > 0), lines)
        patterns += pattern


def _place(walk: _Walk, node: dict[str, Any]) -> tuple[int, int]:
    """Line and column of a node; advances the walk over every place that was printed."""
    own: tuple[int, int] | None = None
    starts = node.get("range", {})
    for at in (node.get("loc"), starts.get("begin"), starts.get("end")):
        if not at:
            continue
        for part in (at.get("spellingLoc"), at.get("expansionLoc"), at):
            if (part and "offset" in part) or (part and "line" in part):
                walk.line = part.get("line", walk.line)
                walk.column = part.get("col", walk.column)
        if own is None and "includedFrom" not in at:
            own = (walk.line, walk.column)
    return own or (0, 0)


def _spaces(
    node: dict[str, Any], kind: str, line: int, column: int, source: str
) -> Iterator[Diagnostic]:
    written = node.get("type", {}).get("qualType", "")
    if kind in _FUNCTIONS:
        written = written.split("(", 1)[0]
    elif kind not in ("VarDecl", "ParmVarDecl", "FieldDecl", *_CASTS):
        return
    if not _POINTEE.search(written) or re.search(r"\bauto\b", source):
        return
    if re.search(r"\*\s*__generic\s*&", written):
        return  # a reference to a pointer, `device T*& p`, is to the thread's own
    what = "reference" if "&" in _POINTEE.search(written).group() else "pointer"  # type: ignore[union-attr]
    name = node.get("name")
    subject = f"'{name}'" if name else "this cast"
    if kind in _FUNCTIONS:
        subject = f"the result of '{name}'"
    message = (
        f"{subject}: a {what} must name its address space: device, constant, threadgroup or thread"
    )
    yield Diagnostic(line, column, "error", "address-space", message)


def _program_scope(
    node: dict[str, Any], kind: str, parent: str, line: int, column: int
) -> Iterator[Diagnostic]:
    if kind != "VarDecl" or parent not in _PROGRAM_SCOPE:
        return
    written = node.get("type", {}).get("qualType", "")
    if "__constant" in written:
        return
    where = "a static member" if parent == "CXXRecordDecl" else "a program-scope variable"
    message = f"'{node.get('name')}': {where} must be in the constant address space"
    yield Diagnostic(line, column, "error", "program-scope", message)


def _conversion(node: dict[str, Any], kind: str, line: int, column: int) -> Iterator[Diagnostic]:
    """float and half do not become bfloat by themselves."""
    if kind != "ImplicitCastExpr" or node.get("castKind") != "FloatingCast":
        return
    source = node.get("inner", [{}])[0]
    to, given = (_type(n).split(" ")[-1] for n in (node, source))
    if to in ("__bf16", "bfloat") and source.get("kind") != "FloatingLiteral":
        message = f"no implicit conversion from {given} to bfloat: write bfloat(...)"
        yield Diagnostic(line, column, "error", "bfloat-conversion", message)


def _shift(node: dict[str, Any], kind: str, line: int, column: int) -> Iterator[Diagnostic]:
    """Clang takes the count modulo the width, as OpenCL says; Metal leaves it undefined."""
    if kind != "BinaryOperator" or node.get("opcode") not in ("<<", ">>"):
        return
    count = node.get("inner", [{}, {}])[1]
    while count.get("kind") in ("ImplicitCastExpr", "ParenExpr", "ConstantExpr"):
        count = count.get("inner", [{}])[0]
    of = re.fullmatch(r"(?:unsigned )?(int|long)", _type(node).split("__private ")[-1])
    if of is None:
        return  # depends on a template
    width = 64 if of[1] == "long" else 32
    if count.get("kind") == "IntegerLiteral" and int(count["value"]) >= width:
        message = f"shift by {count['value']} of a {width}-bit integer"
        yield Diagnostic(line, column, "error", "shift", message)


def _type(node: dict[str, Any]) -> str:
    described = node.get("type", {})
    return str(described.get("desugaredQualType") or described.get("qualType", ""))


def _recursion(walk: _Walk) -> Iterator[Diagnostic]:
    """One error for every function that can reach itself."""
    reported = set()
    for start, (name, line, column) in walk.functions.items():
        seen: set[str] = set()
        pending = [c for c in walk.calls.get(start, ()) if c in walk.functions]
        while pending:
            at = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            pending += [c for c in walk.calls.get(at, ()) if c in walk.functions]
        if start in seen and (line, column) not in reported:
            reported.add((line, column))
            message = f"'{name}' calls itself: Metal has no recursion"
            yield Diagnostic(line, column, "error", "recursion", message)
