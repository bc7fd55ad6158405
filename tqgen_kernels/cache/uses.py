"""Whether the code that asks for keys and values hands them to attention and does nothing else.

Attention that reads the packed store never looks at the dequantised keys and values, but building
their graph at every step and layer costs the host more than all else that a cache does. Where the
source of the calling function shows that nothing else can see them, that work is left out: the
handles then hold NaN, and the hook makes the content if it needs it after all.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from types import CodeType, FrameType

import mlx.core as mx
from mlx_lm.models import base

_ATTENTION = "scaled_dot_product_attention"
_HARMLESS = ("shape", "dtype", "ndim")
_INTROSPECTION = {"locals", "vars", "eval", "exec"}
# By identity: hashing a code object takes longer than all else here. Held, so that it stays one.
_proved: dict[int, tuple[CodeType, bool]] = {}


def only_attends(frame: FrameType) -> bool:
    """Whether the function of this frame, which has called update_and_fetch, can only attend."""
    found = frame.f_globals.get(_ATTENTION, base.scaled_dot_product_attention)
    if found is not base.scaled_dot_product_attention:
        return False  # somebody's own function: who knows what it does
    code = frame.f_code
    known = _proved.get(id(code))
    if known is None:
        core = frame.f_globals.get("mx", mx)
        known = code, core is mx and _base_only_passes_on() and _proves(code)
        _proved[id(code)] = known
    return known[1]


def _function(code: CodeType) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError, TypeError):
        return None
    found = tree.body[0] if len(tree.body) == 1 else None
    return found if isinstance(found, ast.FunctionDef) else None


def _base_only_passes_on() -> bool:
    """mlx-lm's own wrapper: keys and values are arguments of further attention functions."""
    function = _function(base.scaled_dot_product_attention.__code__)
    allowed = (_ATTENTION, f"quantized_{_ATTENTION}")
    return function is not None and _only_in_calls(function.body, {"keys", "values"}, allowed)


def _proves(code: CodeType) -> bool:
    function = _function(code)
    if function is None:
        return False
    updates = [node for node in ast.walk(function) if _is_update(node)]
    found = list(_updates_with_what_follows(function.body, []))
    if _INTROSPECTION & _names_in(function) or not updates or len(found) != len(updates):
        return False
    return all(
        targets is not None
        and not _elsewhere(function, targets)
        and _only_in_calls(after, targets, (_ATTENTION,))
        for targets, after in found
    )


def _elsewhere(function: ast.FunctionDef, names: set[str]) -> bool:
    """Whether the names reach code that runs at another time, or are changed in place."""
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal) and names & set(node.names):
            return True
        if isinstance(node, ast.AugAssign) and names & _names_in(node.target):
            return True
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if inner and node is not function and names & _names_in(node):
            return True
    return False


def _names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _is_update(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "update_and_fetch"


def _updates_with_what_follows(
    block: list[ast.stmt], after: list[ast.stmt]
) -> Iterator[tuple[set[str] | None, list[ast.stmt]]]:
    """Each `a, b = cache.update_and_fetch(...)`, its names, and the statements that may follow it.

    Only blocks and branches are entered: an update inside a loop or a nested function is not found.
    """
    for i, statement in enumerate(block):
        following = block[i + 1 :] + after
        if isinstance(statement, ast.Assign) and _is_update(statement.value):
            yield _targets(statement), following
        elif isinstance(statement, ast.If):
            yield from _updates_with_what_follows(statement.body, following)
            yield from _updates_with_what_follows(statement.orelse, following)
        elif isinstance(statement, ast.With):
            yield from _updates_with_what_follows(statement.body, following)


def _targets(statement: ast.Assign) -> set[str] | None:
    """The names of `a, b = ...`; None for any other target."""
    target = statement.targets[0] if len(statement.targets) == 1 else None
    if not isinstance(target, ast.Tuple):
        return None
    names = {element.id for element in target.elts if isinstance(element, ast.Name)}
    return names if len(names) == len(target.elts) == 2 else None


def _only_in_calls(block: list[ast.stmt], names: set[str], functions: tuple[str, ...]) -> bool:
    """Whether every read of these names is an argument of one of the functions, or of a shape."""
    allowed: set[int] = set()
    for node in (node for statement in block for node in ast.walk(statement)):
        if isinstance(node, ast.Call) and _is_attention(node.func, functions):
            allowed |= {id(argument) for argument in node.args}
            allowed |= {id(keyword.value) for keyword in node.keywords}
        elif isinstance(node, ast.Attribute) and node.attr in _HARMLESS:
            allowed.add(id(node.value))
    return all(
        id(node) in allowed
        for statement in block
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    )


def _is_attention(function: ast.expr, names: tuple[str, ...]) -> bool:
    """`scaled_dot_product_attention`, or `mx.fast.` before it."""
    if isinstance(function, ast.Name):
        return function.id in names
    return ast.unparse(function) == f"mx.fast.{_ATTENTION}"
