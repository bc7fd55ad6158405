"""How many instructions a kernel executes, by kind, counted while it runs.

The text is compiled to LLVM IR at -O2 with vectorisation off; each basic block then gets a counter,
and a run in the emulator adds up. What is counted is thus the optimised program, for no particular
GPU, over all threads of a launch: the same number on every run.

integer   arithmetic, logic, shifts, comparisons and selects of integers
floating  the same of float, half and bfloat, and square roots and the like
convert   between floating types, and between these and integers
memory    loads and stores, each of one element, whatever memory they are of
simd      SIMD-group functions and matrix products, one each; barriers

A vector operation counts once for each 32 bits, so that half2 is one. Not counted: jumps, addresses
(getelementptr), integers made wider or narrower, moves in and out of vectors, absolute values and
negations, and what the emulator itself does to pass operands between lanes.
"""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from tqgen_kernels.emulator import build
from tqgen_kernels.emulator import cache as disk
from tqgen_kernels.emulator.compiler import Compiler, compile_or_raise
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.kernel import MetalKernel
from tqgen_kernels.emulator.launch import Library, load
from tqgen_kernels.emulator.prelude import precompiled_prelude, prelude_digest
from tqgen_kernels.emulator.signature import GeneratedKernel

KINDS = ("integer", "floating", "convert", "memory", "simd")
_SCALAR = ["-fno-vectorize", "-fno-slp-vectorize", "-mllvm", "-inline-threshold=100000"]
_OPCODES = {
    "integer": "add|sub|mul|[us]div|[us]rem|and|or|xor|shl|[la]shr|icmp",
    "floating": "f(add|sub|mul|div|rem|cmp)",
    "convert": "fpext|fptrunc|fpto[us]i|[us]itofp",
    "memory": "load|store",
}
_INTRINSICS = {
    "integer": r"(u|s)(min|max)|fsh[lr]|ct(pop|lz|tz)|bitreverse|bswap|abs|(u|s)(add|sub)\.sat",
    "floating": r"fma|fmuladd|sqrt|exp2?|log2?|pow|floor|ceil|rint|round|trunc|m(in|ax)num|sin|cos",
}
_WAITS = {"tq_simd_wait", "tq_simdgroup_barrier", "tq_threadgroup_barrier"}
_DEFINITION = re.compile(r"^define .*@\"?([\w.$]+)\"?\(")
_RESULT = re.compile(r"^\s+(?:(%[\w.$]+) = )?(?:tail |musttail |notail )*([a-z]+)\b(.*)")
_VECTOR = re.compile(r"<(\d+) x (i\d+|half|bfloat|float|double)>")
_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}


@dataclass(frozen=True)
class CountedLibrary:
    """A kernel's library whose basic blocks count, and what a run of each block executes."""

    path: Path
    blocks: tuple[Mapping[str, int], ...]


class CountingKernel(MetalKernel):
    """As MetalKernel; `counts` are the instructions of its launches so far, by kind."""

    _counted: tuple[CountedLibrary, Library] | None = None
    _before: Counter[str] | None = None  # a library of the same text may have run in this process

    @property
    def counts(self) -> dict[str, int]:
        found, before = self._executed(), self._before or Counter()
        return {kind: found[kind] - before[kind] for kind in KINDS}

    def _executed(self) -> Counter[str]:
        total: Counter[str] = Counter()
        if self._counted is not None:
            counted, library = self._counted
            runs = (ctypes.c_uint64 * len(counted.blocks)).in_dll(library.handle, "tq_counts")
            for n, block in zip(runs, counted.blocks, strict=True):
                total.update({kind: n * each for kind, each in block.items()})
        return total

    def _library(
        self, compiler: Compiler, generated: GeneratedKernel, arguments: str, checked: bool
    ) -> Library:
        counted = counted_library(compiler, self.name, generated, arguments)
        self._counted = counted, load(compiler, counted.path)
        self._before = self._executed()
        return self._counted[1]


def counted_library(
    compiler: Compiler, name: str, kernel: GeneratedKernel, template_args: str
) -> CountedLibrary:
    """The kernel's library with a counter a block, and its optimised IR beside it on disk.

    Raises MetalCompileError where it does not compile, or the compiler is not clang.
    """
    if compiler.kind == "gcc":
        raise MetalCompileError("Counting instructions takes clang: pip install ziglang.")
    text = build.translation_unit(name, kernel, template_args)
    # The kernel stays a function of its own, apart from what calls it for each thread.
    text = text.replace("#define TQ_CALL\n", "#define TQ_CALL [[clang::noinline]]\n")
    runtime = build.runtime_library(compiler)
    flags = [*build.front_end_flags(), *_SCALAR]
    parts = (compiler.identity, prelude_digest(), runtime.name, " ".join(flags), text)
    optimised = disk.stored(
        disk.digest("optimised", *parts),
        ".ll",
        lambda out: _optimise(compiler, name, text, flags, out),
    )
    counting, blocks = count_blocks(optimised.read_text())
    key = disk.digest("counting", *parts, counting)
    path = disk.stored(
        key, ".so", lambda out: _assemble(compiler, name, counting, flags, runtime, out)
    )
    return CountedLibrary(path, tuple(blocks))


def _optimise(compiler: Compiler, name: str, text: str, flags: list[str], out: Path) -> None:
    source = out.with_suffix(".cl")
    source.write_text(text)
    prelude = precompiled_prelude(compiler, tuple(flags))
    front = [*compiler.clang, *flags, "-g0", "-include-pch", str(prelude), source.name]
    compile_or_raise([*front, "-S", "-emit-llvm", "-o", str(out)], name, out.parent)


def _assemble(
    compiler: Compiler, name: str, ir: str, flags: list[str], runtime: Path, out: Path
) -> None:
    source, made = out.with_suffix(".ll"), out.with_suffix(".o")
    source.write_text(ir)
    back = [*compiler.clang, *build.back_end_flags(flags), "-x", "ir", source.name]
    compile_or_raise([*back, "-c", "-o", made.name], name, out.parent)
    build.link(compiler, [made, runtime], out)


def count_blocks(ir: str) -> tuple[str, list[Counter[str]]]:
    """The IR with a counter at the start of each block of the kernel's functions, and what each
    block executes by kind."""
    lines: list[str] = []
    blocks: list[Counter[str]] = []
    own: set[str] = set()  # the emulator's: the thread's number, where a lane's operands are
    inside = starts = False
    for line in ir.splitlines():
        definition = _DEFINITION.match(line)
        if definition:
            name = definition[1]
            inside = "__tq" not in name and name not in ("tq_entry", "tq_range")
            starts, own = inside, set()
        elif line.startswith("}"):
            inside = starts = False
        elif inside and re.match(r"^[\w.$\"-]+:", line):
            starts = True
        elif inside and line.strip() and not line.lstrip().startswith(";"):
            if starts and not re.match(r"^\s+%[\w.$]+ = phi ", line):
                starts = False
                lines.append(_increment(len(blocks)))
                blocks.append(Counter())
            kind, number = _instruction(line, own)
            if kind:
                blocks[-1][kind] += number
        lines.append(line)
    lines.append(f"@tq_counts = global [{len(blocks)} x i64] zeroinitializer, align 8")
    return "\n".join(lines) + "\n", blocks


def _increment(block: int) -> str:
    at = f"getelementptr (i64, ptr @tq_counts, i64 {block})"
    return f"  %tq.run{block} = atomicrmw add ptr {at}, i64 1 monotonic"


def _instruction(line: str, own: set[str]) -> tuple[str, int]:
    """What a line of IR counts as, and how often; ("", 0) for what is not counted."""
    found = _RESULT.match(line)
    if not found:
        return "", 0
    result, opcode, rest = found.groups()
    if opcode == "call":
        return _call(result, rest, own)
    if opcode in ("load", "store"):
        if re.search(r"ptr @tq_", rest):
            own.add(result or "")
            return "", 0
        if own & set(re.findall(r"ptr (%[\w.$]+)", rest)):
            return "", 0
    elif own.issuperset(used := re.findall(r"%[\w.$]+", rest)) and used:
        own.add(result or "")  # made of nothing else: the lane's number, or a place beside it
        return "", 0
    if opcode == "select":
        return ("floating" if re.search(r"\b(half|bfloat|float)\b", rest) else "integer"), _width(
            rest
        )
    for kind, pattern in _OPCODES.items():
        if re.fullmatch(pattern, opcode):
            return kind, _width(rest)
    return "", 0


def _call(result: str | None, rest: str, own: set[str]) -> tuple[str, int]:
    name = re.search(r"@\"?([\w.$]+)\"?\(", rest)
    if name is None:
        return "", 0
    if name[1] == "tq_my_slot" and result:
        own.add(result)
    if name[1] in _WAITS:
        return "simd", 1
    for kind, pattern in _INTRINSICS.items():
        if re.match(rf"llvm\.({pattern})\b", name[1]):
            return kind, _width(rest)
    if re.fullmatch(r"llvm\.(memcpy|memset)[\w.]*", name[1]):
        length = re.search(r"i64 (\d+)", rest)
        return "memory", ceil(int(length[1]) / 16) if length else 1
    if re.fullmatch(r"(exp2?|log2?|pow|sin|cos|tan)f?", name[1]):
        return "floating", 1
    return "", 0


def _width(rest: str) -> int:
    """32-bit registers of a vector; 1 for anything else."""
    vector = _VECTOR.search(rest)
    if vector is None:
        return 1
    bits = _BITS.get(vector[2]) or int(vector[2][1:])
    return ceil(int(vector[1]) * bits / 32)
