"""Turns what the runtime recorded into findings with lines, names and sentences."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tqgen_kernels.emulator.faults import Finding
from tqgen_kernels.emulator.launch import Library, RawFinding
from tqgen_kernels.emulator.messages import HEADER_LINES
from tqgen_kernels.emulator.rewrite import threadgroup_variables
from tqgen_kernels.emulator.signature import GeneratedKernel
from tqgen_kernels.emulator.symbols import line_at

# In the order of `Kind` in runtime.h.
KINDS = (
    "out-of-bounds",
    "race",
    "uninitialised-read",
    "barrier-divergence",
    "inactive-lane",
    "misaligned",
    "division-by-zero",
    "shift-out-of-range",
    "float-to-int-range",
    "hang",
    "threadgroup-memory",
    "write-to-input",
    "stack-overflow",
    "unwritten-output",
    "simd-divergence",
    "wild-pointer",
    "crash",
)
SPACES = (None, "device", "threadgroup", "thread", "constant")
_SLOTS = 64  # `max_slots` of runtime.h

# `Detail` of runtime.h
_IS_WRITE, _ACROSS, _SAME, _LOCKSTEP, _FLAG, _OTHER_WRITE, _ENDED, _OTHER_BARRIER, _SEVERAL = (
    1 << i for i in range(9)
)


@dataclass(frozen=True, slots=True)
class Launched:
    """The kernel that findings are about."""

    name: str
    kernel: GeneratedKernel
    library: Library
    threadgroup: tuple[int, int, int]
    timeout: float | None


def describe(raw: Sequence[RawFinding], launched: Launched) -> tuple[Finding, ...]:
    """Findings in the order in which they were met, a line reported once for each kind."""
    variables: tuple[str, ...] | None = None
    found: dict[tuple[object, ...], Finding] = {}
    for r in raw:
        if (r.slot > _SLOTS or r.type) and variables is None:
            variables = threadgroup_variables(launched.kernel.text)
        finding = _finding(r, launched, variables or ())
        key = (finding.kind, finding.part, finding.line, finding.buffer, finding.soft)
        found.setdefault(key, finding)
    return tuple(found.values())


def _finding(r: RawFinding, launched: Launched, variables: Sequence[str]) -> Finding:
    kind = KINDS[r.kind]
    number = line_at(launched.library.path, r.pc - launched.library.base) if r.pc else None
    if number is None:
        number = 0 if (r.file or b"").endswith(b".h") else r.line
    header = number > HEADER_LINES
    line = number - HEADER_LINES * header or None
    place = launched.name + (".header" if header else "") + (f":{line}" if line else "")
    position = tuple(
        g * size + t for g, size, t in zip(r.group, launched.threadgroup, r.thread, strict=True)
    )
    buffer = _buffer(r, launched.kernel, variables)
    space = SPACES[r.space]
    if r.name:
        buffer = _author_name(r.name.decode(), launched.kernel)
    if r.type:
        space, r.extent = _indexed_array(r.type.decode(errors="replace"))
        erased = b"__" not in r.type  # g++ knows no address spaces
        if (erased or space == "threadgroup") and line and not header:
            buffer = _variable_on(line, launched.kernel, variables)
            space = "threadgroup" if buffer else space
    if space == "device" and buffer is not None:
        space = next(p.address_space for p in launched.kernel.parameters if p.name == buffer)
    who = f"thread {position} of the grid"
    if any(r.group):
        who += f", {tuple(r.thread)} of threadgroup {tuple(r.group)}"
    message = _message(kind, r, launched, buffer, space, who)
    severity = "warning" if r.soft else "error"
    return Finding(
        kind=kind,
        kernel=launched.name,
        line=line,
        thread=(position[0], position[1], position[2]),
        address_space=space,
        buffer=buffer,
        index=r.index
        if (space and (not r.name or kind == "out-of-bounds"))
        or kind in ("shift-out-of-range", "inactive-lane")
        else None,
        message=f"{place}: {severity}: {message} [{kind}]",
        soft=bool(r.soft),
        part="header" if header else "source",
    )


def _buffer(r: RawFinding, kernel: GeneratedKernel, variables: Sequence[str]) -> str | None:
    if 0 <= r.slot < _SLOTS:
        return next((p.name for p in kernel.parameters if p.buffer_index == r.slot), None)
    declared = r.slot - _SLOTS - 1
    return variables[declared] if 0 <= declared < len(variables) else None


def _author_name(name: str, kernel: GeneratedKernel) -> str:
    """A variable's name without the number that a compiler adds to the second of that name."""
    return name if re.search(rf"\b{name}\b", kernel.text) else name.rstrip("0123456789.")


def _indexed_array(compiler_type: str) -> tuple[str, int]:
    """Address space and length of an array or vector from its type's name."""
    spaces = {"__local": "threadgroup", "__constant": "constant", "__global": "device"}
    space = next((ours for theirs, ours in spaces.items() if theirs in compiler_type), "thread")
    length = re.search(r"\[(\d+)\]", compiler_type) or re.search(r"vector of (\d+)", compiler_type)
    return space, int(length[1]) if length else 0


def _variable_on(line: int, kernel: GeneratedKernel, variables: Sequence[str]) -> str | None:
    """The threadgroup variable that a line of the source indexes, if it can be but one."""
    text = kernel.text.split("\n")[kernel.source_first_line + line - 2]
    named = {name for name in variables if re.search(rf"\b{name}\s*\[", text)}
    return named.pop() if len(named) == 1 else None


def _message(
    kind: str, r: RawFinding, launched: Launched, buffer: str | None, space: str | None, who: str
) -> str:
    what = f"{space} memory '{buffer}'" if buffer else f"{space} memory" if space else "memory"
    access = "write to" if r.detail & _IS_WRITE else "read of"
    element = f"{buffer}[{r.index}]" if buffer else f"index {r.index}"
    if kind == "out-of-bounds":
        if r.type:
            array = f"'{buffer}'" if buffer else "an array"
            return f"index {r.index} of {array} of {r.extent} in {space} memory; {who}"
        return f"{access} {element} in {what}, which has {r.extent} elements; {who}"
    if kind == "race":
        return _race(r, element, what, who)
    if kind == "uninitialised-read" and r.name:
        return f"'{buffer}' is read before anything was written to it; {who}"
    if kind == "uninitialised-read" and r.soft:
        return f"{element} in {what} is read, but what was stored there was never written; {who}"
    if kind == "uninitialised-read":
        return f"{element} in {what} is read before anything was written there; {who}"
    if kind == "barrier-divergence":
        if r.detail & _ENDED:
            return (
                f"{r.index} of {r.extent} threads of the threadgroup ended before the barrier "
                f"that the others wait at; first of these: {who}"
            )
        if r.detail & _OTHER_BARRIER:
            return (
                f"threads wait at different barriers, here and at line {_line(r.other_line)}; {who}"
            )
        return f"not all lanes of the SIMD-group reach this barrier; {who}"
    if kind == "inactive-lane":
        return f"the value is taken from lane {r.index}, which is not active; {who}"
    if kind == "misaligned":
        at = f"address {r.other_pc:#x} of {element}" if buffer else f"address {r.other_pc:#x}"
        return f"{at if r.other_pc else 'an address'} is not aligned as its type demands; {who}"
    if kind == "division-by-zero":
        return f"integer division by zero (or of the least integer by -1); {who}"
    if kind == "shift-out-of-range":
        return f"shift by {r.index} of a {r.extent}-bit integer; {who}"
    if kind == "float-to-int-range":
        return f"the float does not fit the integer type it is converted to; {who}"
    if kind == "hang":
        return f"still running after {launched.timeout} s; {who}"
    if kind == "threadgroup-memory":
        return f"'{buffer}' makes {r.index} bytes of threadgroup memory; the limit is {r.extent}"
    if kind == "write-to-input":
        return f"{element} is written, but '{buffer}' is an input; {who}"
    if kind == "unwritten-output":
        return f"{r.count} elements of output '{buffer}' were never written, {element} the first"
    if kind == "simd-divergence":
        return f"only lanes {r.index & 0xFFFFFFFF:#010x} of the SIMD-group take part in this; {who}"
    if kind == "stack-overflow":
        return f"the thread's variables do not fit its stack (128 KiB); {who}"
    if kind == "wild-pointer":
        return f"access through a pointer to nowhere ({r.index & (2**64 - 1):#x}); {who}"
    return f"the kernel crashed; {who}"


def _race(r: RawFinding, element: str, what: str, who: str) -> str:
    mine = "written" if r.detail & _IS_WRITE else "read"
    theirs = "wrote" if r.detail & _OTHER_WRITE else "read"
    if r.detail & _ACROSS:
        other = f"a thread of another threadgroup {theirs} it in the same launch"
    elif r.detail & _SEVERAL:
        other = f"other threads of the threadgroup {theirs} it"
    else:
        other = f"thread {r.other_thread} of the threadgroup {theirs} it"
    text = f"{element} in {what} is {mine}, and {other}"
    if r.detail & _SAME:
        return f"{text}, the same value; {who}"
    if r.detail & _FLAG:
        return f"{text}; the barrier between has a mem flag for other memory; {who}"
    if r.detail & _LOCKSTEP:
        return f"{text}; only SIMD-group lockstep orders the two; {who}"
    return f"{text}, with no barrier between; {who}"


def _line(number: int) -> str:
    return f"{number - HEADER_LINES} of the header" if number > HEADER_LINES else str(number)
