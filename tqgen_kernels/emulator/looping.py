"""Puts a short kernel into the loop over the threads of a threadgroup, in unoptimised LLVM text.

A call costs more than what such a kernel does. Only a kernel whose threads never wait runs in that
loop. What surrounds it there is marked, so that it reports no accesses.
"""

import re

_WAITS = ("@tq_simd_wait", "@tq_simdgroup_barrier", "@tq_threadgroup_barrier")
_SHORT = 400  # lines of unoptimised text
LOOP = re.compile(r"^define void @tq_range\(.*?^\}$", re.MULTILINE | re.DOTALL)
_ACCESS = re.compile(r"^  (?:%\S+ = load|store|call void @llvm\.mem\S+) .*$", re.MULTILINE)


def with_kernel_in_loop(ir: str, kernel: str) -> str:
    """`ir` whose loop has the body of the function named `kernel...`, or `ir` if that is long."""
    loop = LOOP.search(ir)
    if loop is None or any(name in ir for name in _WAITS):
        return ir
    call = re.search(
        rf"^  call void (?P<name>@\S*{kernel}[^\s(]*)\(.*\)(?P<how> #\d+)?", loop[0], re.M
    )
    if call is None or _length(ir, call["name"]) > _SHORT:
        return ir
    body = loop[0].replace(call[0], call[0].removesuffix(call["how"] or "") + " alwaysinline", 1)
    head, rest = body.split("\n", 1)
    head = head.replace(") #", ") sanitize_thread #", 1)
    rest = _ACCESS.sub(r"\g<0>, !nosanitize !{}", rest)
    return f"{ir[: loop.start()]}{head}\n{rest}{ir[loop.end() :]}"


def _length(ir: str, name: str) -> int:
    begin = re.search(rf"^define .*{re.escape(name)}\(", ir, re.MULTILINE)
    return ir.count("\n", begin.start(), ir.index("\n}\n", begin.start())) if begin else _SHORT + 1
