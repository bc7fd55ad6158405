"""Compiles Metal text, and the runtime it needs, into shared libraries in the disk cache."""

import re
import sys
from itertools import pairwise
from pathlib import Path

from tqgen_kernels.emulator import cache as disk
from tqgen_kernels.emulator.compiler import Compiler, compile_or_raise, machine_flags, target
from tqgen_kernels.emulator.entry import entry_points
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.gcc import gcc_flags
from tqgen_kernels.emulator.inlining import hands_out_variables, made_inline
from tqgen_kernels.emulator.looping import with_kernel_in_loop
from tqgen_kernels.emulator.messages import HEADER_LINES, LAUNCH_LINES
from tqgen_kernels.emulator.prelude import headers, precompiled_prelude, prelude_digest
from tqgen_kernels.emulator.ranks import REFUSAL, repaired
from tqgen_kernels.emulator.rewrite import rewrite
from tqgen_kernels.emulator.shifts import check_divisions, check_shifts
from tqgen_kernels.emulator.signature import GeneratedKernel
from tqgen_kernels.emulator.sites import with_sites
from tqgen_kernels.emulator.variables import check_variables

_HERE = Path(__file__).parent

_LANGUAGE = [
    "-x", "cl", "-cl-std=clc++2021", "-cl-no-stdinc", "-cl-single-precision-constant",
    "-Xclang", "-cl-ext=+all", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
    "-fvisibility=hidden", "-Wno-unused-value", "-fno-caret-diagnostics", "-DMLX_METAL_JIT",
    "-gline-tables-only", "-ferror-limit=20", "-fno-finite-loops",
    "-fno-delete-null-pointer-checks", "-fstack-clash-protection",
]  # fmt: skip
_FAST = ["-O2"]
_CHECKED = [
    "-O1", "-DTQ_CHECKED=1", "-ftrivial-auto-var-init=pattern",
    "-fsanitize=thread,array-bounds,alignment,integer-divide-by-zero,float-cast-overflow",
    "-mllvm", "-tsan-instrument-func-entry-exit=0",
    "-mllvm", "-tsan-instrument-read-before-write=1",
]  # fmt: skip
_KERNEL = "custom_kernel_"  # how the name of every kernel begins
# What an error may be about -> how the text is compiled once more, since Metal is less strict:
# references to `thread` memory may come out of functions, structs out of `constant` memory.
_LAX = {
    r"\bthread\b|generic|default": "-DTQ_LAX_THREAD=1",
    r"cannot bind reference in address space '(__)?constant'": "-DTQ_LAX_CONSTANT=1",
}


def kernel_library(
    compiler: Compiler,
    name: str,
    kernel: GeneratedKernel,
    template_args: str,
    *,
    checked: bool,
    fast_math: bool = False,
) -> Path:
    """Shared library with the entry points of `kernel`; `fast_math` only defines `__FAST_MATH__`.

    Raises:
        MetalCompileError: the text does not compile; lines are those of the author's source.
    """
    plain = compiler.kind == "gcc"
    flags = gcc_flags(compiler, checked) if plain else _flags(checked)
    text = translation_unit(name, kernel, template_args, plain=plain)
    if fast_math:
        text = f"#define __FAST_MATH__ 1\n{text}"
    runtime = runtime_library(compiler)
    key = disk.digest(compiler.identity, prelude_digest(), runtime.name, " ".join(flags), text)
    return disk.stored(key, ".so", lambda out: _compile(compiler, name, text, flags, runtime, out))


def runtime_library(compiler: Compiler) -> Path:
    """Shared library with the scheduler, the memory and the detectors."""
    sources = sorted((_HERE / "runtime").iterdir())
    contents = "".join(path.read_text() for path in sources)
    contents += (_HERE / "include" / "abi.h").read_text()
    key = disk.digest("runtime", compiler.identity, contents, " ".join(machine_flags()))

    def make(out: Path) -> None:
        source = str(_HERE / "runtime" / "runtime.cpp")
        flags = [
            "-std=c++17", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden",
            "-fno-strict-aliasing", "-g0", "-Wall", "-Wno-pragmas", *machine_flags(),
        ]  # fmt: skip
        made = out.with_suffix(".o")
        front = [compiler.path]
        if compiler.kind == "ziglang":
            front += [
                "cc",
                "-x",
                "c++",
                "-nostdinc++",
                "-fno-sanitize=all",
                "-Wno-unused-command-line-argument",
            ]
            flags = [f.replace("x86-64-v3", "x86_64_v3") for f in flags]
        compile_or_raise(
            [*front, *flags, "-c", source, "-o", str(made)], "the emulator's runtime", out.parent
        )
        link(compiler, [made], out)

    return disk.stored(key, ".so", make, exclusive=True)


def front_end_flags() -> list[str]:
    """Flags under which the static check parses a text: those of a run in fast mode."""
    return _flags(checked=False)


def lax_flags(errors: str) -> list[str]:
    """Flags with which a text may compile although it gave these `errors`."""
    return [define for sign, define in _LAX.items() if re.search(sign, errors)]


def _flags(checked: bool) -> list[str]:
    return [*_LANGUAGE, "-target", target(), *machine_flags(), *(_CHECKED if checked else _FAST)]


def translation_unit(
    name: str, kernel: GeneratedKernel, template_args: str, *, plain: bool = False
) -> str:
    """The kernel's text with line markers: `NAME.header`, then `NAME` for the author's source."""
    lines = rewrite(kernel.text, swizzle_calls=plain).split("\n")
    first = kernel.source_first_line - 1
    source_lines = len(kernel.text.split("\n")) - first
    head, body = lines[:first], lines[first : first + source_lines]
    return "\n".join(
        [
            f'#line {HEADER_LINES + 1} "{name}.header"', *head,
            f'#line 1 "{name}"', *body,
            f'#line {LAUNCH_LINES + 1} "{name}.launch"', entry_points(kernel, template_args),
        ]
    )  # fmt: skip


def _compile(
    compiler: Compiler, name: str, text: str, flags: list[str], runtime: Path, out: Path
) -> None:
    source = out.with_suffix(".cl")
    source.write_text(text)
    made = out.with_suffix(".o")
    if compiler.kind == "gcc":
        include = ["-include", str(headers() / "plain" / "metal.h")]
        command = [compiler.path, *flags, *include, "-x", "c++", source.name, "-c"]
        compile_or_raise([*command, "-o", made.name], name, out.parent)
        link(compiler, [made, runtime], out)
        return
    _translate(compiler, name, source, flags, made)
    link(compiler, [made, runtime], out)


def _translate(compiler: Compiler, name: str, source: Path, flags: list[str], made: Path) -> None:
    """To an object file; a text that OpenCL refuses but Metal takes gets a second chance."""
    try:
        _to_object(compiler, name, source, flags, made)
        return
    except MetalCompileError as error:
        strict = error
    if REFUSAL in str(strict):
        relaxed = [*flags, *lax_flags(str(strict))]
        repaired(compiler, relaxed, precompiled_prelude(compiler, tuple(relaxed)), source)
        try:
            _to_object(compiler, name, source, flags, made)
            return
        except MetalCompileError as error:
            strict = error
    lax = lax_flags(str(strict))
    if not lax:
        raise strict
    try:
        _to_object(compiler, name, source, [*flags, *lax], made)
    except MetalCompileError:
        raise strict from None


def _to_object(compiler: Compiler, name: str, source: Path, flags: list[str], made: Path) -> None:
    prelude = precompiled_prelude(compiler, tuple(flags))
    front = [*compiler.clang, *flags, "-include-pch", str(prelude), source.name]
    folder = source.parent
    if "-DTQ_CHECKED=1" not in flags:
        compile_or_raise([*front, "-c", "-o", made.name], name, folder)
    else:
        ir = made.with_suffix(".ll")
        unoptimised = ["-Xclang", "-disable-llvm-passes", "-fno-discard-value-names"]
        compile_or_raise([*front, *unoptimised, "-S", "-emit-llvm", "-o", ir.name], name, folder)
        checked = check_divisions(check_shifts(ir.read_text()))
        if hands_out_variables(checked):
            ir.write_text(made_inline(checked, _KERNEL))
            inline = [
                *compiler.clang,
                *back_end_flags(flags, "-O0"),
                "-S",
                "-emit-llvm",
                "-x",
                "ir",
            ]
            compile_or_raise([*inline, ir.name, "-o", f"{ir.stem}.inline.ll"], name, folder)
            checked = ir.with_name(f"{ir.stem}.inline.ll").read_text()
        checked = check_variables(checked)
        looped = with_kernel_in_loop(checked, _KERNEL)
        ir.write_text(looped)
        back = back_end_flags(flags)
        if looped is not checked:
            instrumented = [*compiler.clang, *back, "-S", "-emit-llvm", "-x", "ir", ir.name]
            compile_or_raise([*instrumented, "-o", f"{ir.stem}.calls.ll"], name, folder)
            ir.write_text(with_sites(ir.with_name(f"{ir.stem}.calls.ll").read_text()))
            back = back_end_flags(flags, "-O1")
        command = [*compiler.clang, *back, "-x", "ir", ir.name, "-c", "-o", made.name]
        compile_or_raise(command, name, folder)


def back_end_flags(flags: list[str], optimisation: str = "") -> list[str]:
    """Of `flags` those that concern code generation: what follows `-x cl` is gone by then.

    With an `optimisation` of its own the text stays as it is but for that: no checks are added.
    """
    if optimisation:
        chosen = [f for f in flags if f.startswith(("-fPIC", "-march", "-ffp"))]
        return [*chosen, "-target", target(), optimisation, "-Wno-override-module"]
    kept = [f for f in flags if f.startswith(("-O", "-fPIC", "-march", "-fsanitize", "-ffp"))]
    options = [f for a, b in pairwise(flags) if a in ("-mllvm", "-target") for f in (a, b)]
    return [*kept, *options, "-Wno-override-module"]


def link(compiler: Compiler, made: list[Path], out: Path) -> None:
    """Kernels name the runtime they were linked with: two compilers' may be in one process."""
    files = [str(path) for path in made]
    if sys.platform == "darwin":
        command = ["cc", "-shared", "-undefined", "dynamic_lookup", files[0]]
    elif compiler.kind == "ziglang":
        command = [compiler.path, "ld.lld", "-shared", "--hash-style=gnu", f"-soname={out.name}"]
        command += files
    else:
        # g++ finds its conversions of half in its own library.
        alone = [] if compiler.kind == "gcc" else ["-nostdlib"]
        command = [compiler.path, "-shared", *alone, f"-Wl,-soname={out.name}", *files]
    compile_or_raise([*command, "-o", str(out)], out.name, out.parent)
