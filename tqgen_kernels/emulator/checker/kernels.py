"""The kernels of a .metal file, each as the call of metal_kernel that would make it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from tqgen_kernels.emulator.checker.scopes import Placed, placed_tokens
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.signature import ATTRIBUTES, METAL_TYPES

DTYPE_OF = {
    **{metal: dtype for dtype, metal in METAL_TYPES.items()},
    "half": "float16",
    "bfloat": "bfloat16",
    "char": "int8",
    "uchar": "uint8",
    "short": "int16",
    "ushort": "uint16",
    "int": "int32",
    "uint": "uint32",
    "long": "int64",
    "ulong": "uint64",
    "size_t": "uint64",
    "atomic_int": "int32",
    "atomic_uint": "uint32",
    "atomic_float": "float32",
}
_SPACES = ("device", "constant", "threadgroup", "thread")
_VECTOR = re.compile(r"(?:packed_)?(\w+?)([234])")
_SHAPE_ARGUMENT = re.compile(r"(\w+)_(shape|strides|ndim)")


@dataclass(frozen=True, slots=True)
class Buffer:
    """A buffer parameter. `dtype` is None where it is a parameter of the template, `type_name`."""

    name: str
    dtype: str | None
    type_name: str
    is_scalar: bool
    is_output: bool
    is_constant: bool  # in the constant address space
    lanes: int = 1  # of the vector type it is declared with


@dataclass(frozen=True, slots=True)
class KernelText:
    """One kernel of a file. `body` begins on line `body_line` of the file.

    aliases: declarations on the body's first line, of what MLX passes under another name or type.
    """

    name: str
    line: int
    column: int
    header: str
    aliases: str
    body: str
    body_line: int
    buffers: tuple[Buffer, ...]
    atomic_outputs: bool
    template: tuple[tuple[str, str], ...]  # (name, "typename" | "int" | "bool" | ...)
    instances: tuple[tuple[str, ...], ...]  # of the explicit instantiations, as written

    @property
    def source(self) -> str:
        """What metal_kernel takes as the source."""
        return self.aliases + self.body


def dtype_of(name: str) -> str | None:
    """MLX's dtype by its own name or Metal's; None for the parameter of a template."""
    return name if name in METAL_TYPES else DTYPE_OF.get(name)


def kernels_of(text: str) -> list[KernelText]:
    """Every kernel of a .metal file.

    Raises:
        MetalCompileError: there is none, or one has a parameter that MLX cannot pass; the message
            begins with line and column.
    """
    tokens = placed_tokens(text)
    found = []
    start = 0  # of the declaration at program scope
    for i, token in enumerate(tokens):
        if token.scope == "file" and token.text in (";", "}"):
            start = i + 1
        if token.text == "{" and token.scope == "file" and _is_kernel(tokens[start:i]):
            found.append(_kernel(text, tokens, start, i))
    if not found:
        raise MetalCompileError(
            "1:1: no kernel: nothing here is declared [[kernel]] or `kernel`. If this is the body "
            "that metal_kernel takes, name its buffers: --input x=float32 --scalar n=int32 "
            "--output out=float32"
        )
    return found


def kernel_of_body(
    text: str, name: str, buffers: Sequence[Buffer], template: Sequence[str]
) -> KernelText:
    """The kernel whose body, as metal_kernel takes it, is `text`."""
    parameters = tuple((parameter, "") for parameter in template)
    return KernelText(name, 1, 1, "", "", text, 1, tuple(buffers), False, parameters, ())


def _is_kernel(head: Sequence[Placed]) -> bool:
    texts = [token.text for token in head]
    return "kernel" in texts and ")" in texts


def _kernel(text: str, tokens: Sequence[Placed], start: int, brace: int) -> KernelText:
    head = tokens[start:brace]
    opened = _parameter_list(head)
    name = head[opened - 1]
    offset = _offset(text, head[0])
    body = _offset(text, tokens[brace]) + 1
    end = next((t for t in tokens[brace + 1 :] if t.text == "}" and t.scope == "file"), tokens[-1])
    buffers: list[Buffer] = []
    aliases = ""
    atomic = []
    for parameter in _split(head[opened + 1 : _closing(head, opened)]):
        alias, buffer, is_atomic = _parameter(parameter)
        aliases += alias
        if buffer:
            buffers.append(buffer)
            if buffer.is_output:
                atomic.append(is_atomic)
    if len(set(atomic)) > 1:
        _refuse(name, "some outputs are atomic and some are not; MLX makes all of them atomic")
    if not atomic:
        _refuse(name, "no output: no parameter is `device` without const")
    return KernelText(
        name.text,
        name.line,
        name.column,
        text[:offset],
        aliases,
        text[body : _offset(text, end)].removesuffix("\n"),
        tokens[brace].line,
        tuple(buffers),
        any(atomic),
        _template(head[:opened]),
        _instances(text, name.text),
    )


def _parameter_list(head: Sequence[Placed]) -> int:
    """Index of the parenthesis that opens the parameters: the first behind `void NAME`."""
    for i, token in enumerate(head):
        if token.text == "(" and i > 1 and head[i - 2].text == "void":
            return i
    raise MetalCompileError(
        f"{head[0].line}:{head[0].column}: this kernel does not read `void NAME(...)`"
    )


def _closing(head: Sequence[Placed], opened: int) -> int:
    depth = 0
    for i in range(opened, len(head)):
        depth += {"(": 1, ")": -1}.get(head[i].text, 0)
        if depth == 0:
            return i
    return len(head)


def _split(tokens: Sequence[Placed]) -> list[list[Placed]]:
    """At the commas outside brackets."""
    groups: list[list[Placed]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.text in ("(", "[", "<")) - (token.text in (")", "]", ">"))
        if token.text == "," and depth == 0:
            groups.append([])
        else:
            groups[-1].append(token)
    return [group for group in groups if group]


def _parameter(tokens: Sequence[Placed]) -> tuple[str, Buffer | None, bool]:
    """Code for the body that stands for the parameter, its buffer, whether that is atomic."""
    texts = [token.text for token in tokens]
    attribute = ""
    if "[" in texts and texts[texts.index("[") + 1 :][:1] == ["["]:
        at = texts.index("[")
        attribute = texts[at + 2]
        tokens, texts = tokens[:at], texts[:at]
    name = tokens[-1]
    if attribute in ATTRIBUTES:
        return _attribute_alias(name, attribute, texts[-2]), None, False
    space = next((t for t in texts if t in _SPACES), None)
    if space is None or space not in ("device", "constant") or not {"*", "&"} & set(texts):
        _refuse(name, f"'{name.text}' is neither a device or constant buffer nor a thread position")
    if _SHAPE_ARGUMENT.fullmatch(name.text) and space == "constant":
        return "", None, False  # MLX passes it because the body names it
    return _buffer(name.text, texts[:-1], space)


def _buffer(name: str, declared: Sequence[str], space: str) -> tuple[str, Buffer, bool]:
    """Alias, buffer and whether it is atomic, for `declared name`."""
    qualifiers = (*_SPACES, "const", "volatile", "*", "&")
    type_name = "".join(word for word in declared if word not in qualifiers)
    is_atomic = type_name.startswith(("atomic<", "atomic_"))
    type_name = type_name.removeprefix("atomic<").removesuffix(">")
    is_output = space == "device" and "const" not in declared
    is_reference = "&" in declared
    vector = None if type_name in DTYPE_OF else _VECTOR.fullmatch(type_name)
    if vector is None:
        buffer = Buffer(
            name, DTYPE_OF.get(type_name), type_name, is_reference, is_output, space == "constant"
        )
        return "", buffer, is_atomic
    # MLX has no arrays of vectors: pass the elements, and let the body see vectors.
    buffer = Buffer(
        f"{name}_elements", DTYPE_OF.get(vector[1]), vector[1], False, is_output,
        space == "constant", int(vector[2]),
    )  # fmt: skip
    pointer = f"{'' if is_output else 'const '}{space} {type_name}"
    star, mark = ("*", "&") if is_reference else ("", "*")
    return f"{pointer}{mark} {name} = {star}({pointer}*){buffer.name}; ", buffer, False


def _attribute_alias(name: Placed, attribute: str, type_name: str) -> str:
    given = ATTRIBUTES[attribute]
    if name.text == attribute:
        if type_name != given:
            _refuse(
                name, f"MLX declares {attribute} as {given}: give this {type_name} another name"
            )
        return ""
    lanes = {"3": "", "2": ".xy"}.get(type_name[-1], ".x") if given == "uint3" else ""
    return f"const {type_name} {name.text} = {type_name}({attribute}{lanes}); "


def _template(head: Sequence[Placed]) -> tuple[tuple[str, str], ...]:
    texts = [token.text for token in head]
    if "template" not in texts:
        return ()
    opened = texts.index("<")
    depth, close = 0, opened
    for close in range(opened, len(texts)):
        depth += {"<": 1, ">": -1}.get(texts[close], 0)
        if depth == 0:
            break
    groups = _split(head[opened + 1 : close])
    declared = [[t.text for t in group if t.text != "="] for group in groups]
    return tuple((group[1], group[0]) for group in declared if len(group) > 1)


def _instances(text: str, name: str) -> tuple[tuple[str, ...], ...]:
    found = re.findall(rf"decltype\(\s*{re.escape(name)}\s*<([^()]*)>\s*\)", text)
    return tuple(dict.fromkeys(tuple(v.strip() for v in match.split(",")) for match in found))


def _offset(text: str, token: Placed) -> int:
    at = 0
    for _ in range(token.line - 1):
        at = text.index("\n", at) + 1
    return at + token.column - 1


def _refuse(token: Placed, message: str) -> NoReturn:
    raise MetalCompileError(f"{token.line}:{token.column}: {message}")
