"""Compiles Metal text, and the runtime it needs, into shared libraries in the disk cache."""

import os
import re
import shutil
from functools import cache
from importlib import util
from itertools import pairwise
from pathlib import Path

from tqgen_kernels.emulator import cache as disk
from tqgen_kernels.emulator.compiler import Compiler, machine_flags, run, target
from tqgen_kernels.emulator.entry import entry_points
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.instrument import check_shifts
from tqgen_kernels.emulator.rewrite import rewrite
from tqgen_kernels.emulator.signature import GeneratedKernel

_HERE = Path(__file__).parent

# Added to the line numbers of a header, so that a bare number tells header from source.
HEADER_LINES = 1_000_000
LAUNCH_LINES = 2_000_000  # code that calls the kernel, none of the author's

_LANGUAGE = [
    "-x", "cl", "-cl-std=clc++2021", "-cl-no-stdinc", "-cl-single-precision-constant",
    "-Xclang", "-cl-ext=+cl_khr_fp16", "-fPIC", "-ffp-contract=off", "-fno-math-errno",
    "-fvisibility=hidden", "-Wno-unused-value", "-fno-caret-diagnostics", "-DMLX_METAL_JIT",
    "-gline-tables-only", "-ferror-limit=20", "-fno-finite-loops",
    "-fno-delete-null-pointer-checks",
]  # fmt: skip
_FAST = ["-O2"]
_CHECKED = [
    "-O1", "-DTQ_CHECKED=1", "-ftrivial-auto-var-init=pattern",
    "-fsanitize=thread,array-bounds,alignment,integer-divide-by-zero,float-cast-overflow",
    "-mllvm", "-tsan-instrument-func-entry-exit=0",
    "-mllvm", "-tsan-instrument-read-before-write=1",
]  # fmt: skip


def kernel_library(
    compiler: Compiler, name: str, kernel: GeneratedKernel, template_args: str, *, checked: bool
) -> Path:
    """Shared library with the entry points of `kernel`.

    Raises:
        MetalCompileError: the text does not compile; lines are those of the author's source.
    """
    flags = _flags(checked)
    text = _translation_unit(name, kernel, template_args)
    key = disk.digest(compiler.identity, _prelude_digest(), " ".join(flags), text)
    return disk.stored(key, ".so", lambda out: _compile(compiler, name, text, flags, out))


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
        _checked_run(
            [*front, *flags, "-c", source, "-o", str(made)], "the emulator's runtime", out.parent
        )
        _link(compiler, made, out)

    return disk.stored(key, ".so", make, exclusive=True)


def front_end_flags() -> list[str]:
    """Flags under which the static check parses a text: those of a run in fast mode."""
    return _flags(checked=False)


def _flags(checked: bool) -> list[str]:
    return [*_LANGUAGE, "-target", target(), *machine_flags(), *(_CHECKED if checked else _FAST)]


def _translation_unit(name: str, kernel: GeneratedKernel, template_args: str) -> str:
    """The kernel's text with line markers: `NAME.header`, then `NAME` for the author's source."""
    lines = rewrite(kernel.text).split("\n")
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


def _compile(compiler: Compiler, name: str, text: str, flags: list[str], out: Path) -> None:
    source = out.with_suffix(".cl")
    source.write_text(text)
    made = out.with_suffix(".o")
    prelude = precompiled_prelude(compiler, tuple(flags))
    front = [*compiler.clang, *flags, "-include-pch", str(prelude), source.name]
    if "-DTQ_CHECKED=1" not in flags:
        _checked_run([*front, "-c", "-o", made.name], name, out.parent)
    else:
        ir = out.with_suffix(".ll")
        unoptimised = ["-Xclang", "-disable-llvm-passes", "-fno-discard-value-names"]
        _checked_run([*front, *unoptimised, "-S", "-emit-llvm", "-o", ir.name], name, out.parent)
        ir.write_text(check_shifts(ir.read_text()))
        back = [*compiler.clang, *_back_end(flags), "-x", "ir", ir.name, "-c", "-o", made.name]
        _checked_run(back, name, out.parent)
    _link(compiler, made, out)


def _back_end(flags: list[str]) -> list[str]:
    """Of `flags` those that concern code generation: what follows `-x cl` is gone by then."""
    kept = [f for f in flags if f.startswith(("-O", "-fPIC", "-march", "-fsanitize", "-ffp"))]
    options = [f for a, b in pairwise(flags) if a in ("-mllvm", "-target") for f in (a, b)]
    return [*kept, *options, "-Wno-override-module"]


def _link(compiler: Compiler, made: Path, out: Path) -> None:
    if compiler.kind == "ziglang" and target().endswith("linux-gnu"):
        command = [
            compiler.path,
            "ld.lld",
            "-shared",
            "--hash-style=gnu",
            "-o",
            str(out),
            str(made),
        ]
    elif target().endswith("linux-gnu"):
        command = [compiler.path, "-shared", "-nostdlib", "-o", str(out), str(made)]
    else:
        command = ["cc", "-shared", "-undefined", "dynamic_lookup", "-o", str(out), str(made)]
    _checked_run(command, out.name, out.parent)


def precompiled_prelude(compiler: Compiler, flags: tuple[str, ...]) -> Path:
    """The prelude, parsed once for each set of flags."""
    key = disk.digest("prelude", compiler.identity, _prelude_digest(), " ".join(flags))

    def make(out: Path) -> None:
        _checked_run(
            [
                *compiler.clang, *flags, "-c", "-Xclang", "-emit-pch",
                str(_headers() / "prelude.h"), "-o", str(out),
            ],
            "the emulator's prelude",
            out.parent,
        )  # fmt: skip

    return disk.stored(key, ".pch", make, exclusive=True)


_MLX_UTILS = ("bf16", "complex", "defines", "logging", "utils")  # what MLX puts before a kernel


@cache
def _mlx_utils() -> str:
    """MLX's own utilities from the installed wheel, or the names that kernels use most."""
    spec = util.find_spec("mlx")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "include/mlx/backend/metal/kernels"
        if all((folder / f"{name}.h").exists() for name in _MLX_UTILS):
            parts = ((folder / f"{name}.h").read_text() for name in _MLX_UTILS)
            return "\n".join(parts).replace("#pragma once", "")
    return "typedef half float16_t;\ntypedef bfloat bfloat16_t;\n"


@cache
def _prelude_digest() -> str:
    """Of everything that a kernel's text is compiled against."""
    files = sorted(p for p in (_HERE / "include").rglob("*") if p.is_file())
    return disk.digest(
        *(f"{p.relative_to(_HERE)}\n{p.read_text()}" for p in files),
        *((_HERE / f"{name}.py").read_text() for name in ("rewrite", "instrument")),
        _mlx_utils(),
    )


def _headers() -> Path:
    """Our headers and MLX's, rewritten like a kernel; a folder that never changes."""

    def make(out: Path) -> None:
        shutil.copytree(_HERE / "include", out)
        (out / "mlx_utils.h").write_text("#pragma once\n" + rewrite(_mlx_utils()))
        (out / "prelude.h").write_text('#include "opencl/metal.h"\n#include "mlx_utils.h"\n')

    return disk.stored(_prelude_digest(), "-headers", make, exclusive=True)


def _environment() -> dict[str, str]:
    zig = str(disk.directory() / "zig")
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig, "LC_ALL": "C"}


def _checked_run(command: list[str], what: str, cwd: Path) -> None:
    done = run(command, cwd=cwd, env=_environment())
    if done.returncode:
        message = _in_metal_terms(done.stderr)
        raise MetalCompileError(f"{what} does not compile:\n{message.strip()}")


_METAL_NAMES = {
    "__global": "device", "__local": "threadgroup", "__private": "thread",
    "__constant": "constant",
}  # fmt: skip


def _in_metal_terms(message: str) -> str:
    """A compiler's message with the author's lines and Metal's words. Columns are not theirs."""
    message = re.sub(
        r"(\.(?:header|launch):)[12](\d{6}):", lambda m: f"{m[1]}{int(m[2])}:", message
    )
    message = re.sub(r"^([^\s:]+:\d+):\d+:", r"\1:", message, flags=re.MULTILINE)
    message = re.sub(r"^\d+ errors? generated\.\n?", "", message, flags=re.MULTILINE)
    message = message.replace("*__private", "*")
    return re.sub(r"__(?:global|local|private|constant)\b", lambda m: _METAL_NAMES[m[0]], message)
