"""What a kernel's text is compiled against: our headers and MLX's own utilities."""

import re
import shutil
from functools import cache
from importlib import util
from pathlib import Path

from tqgen_kernels.emulator import cache as disk
from tqgen_kernels.emulator.compiler import Compiler, compile_or_raise
from tqgen_kernels.emulator.rewrite import rewrite

_HERE = Path(__file__).parent
_MLX_UTILS = ("bf16", "complex", "defines", "logging", "utils")  # what MLX puts before a kernel

_TRANSLATION = (
    "called", "comparisons", "declarations", "entry", "inlining", "looping", "pointers", "ranks",
    "rewrite", "shifts", "sites", "tokens", "variables", "watch",
)  # fmt: skip

# OpenCL has no copy of a struct out of `constant` memory: such texts are compiled with the other.
_PRELUDE = """#include "opencl/metal.h"
#include "mlx_utils.h"
#ifdef TQ_LAX_CONSTANT
#undef constant
#define constant __global const
#endif
"""


def precompiled_prelude(compiler: Compiler, flags: tuple[str, ...]) -> Path:
    """The prelude, parsed once for each set of flags."""
    key = disk.digest("prelude", compiler.identity, prelude_digest(), " ".join(flags))

    def make(out: Path) -> None:
        compile_or_raise(
            [
                *compiler.clang, *flags, "-c", "-Xclang", "-emit-pch",
                str(headers() / "prelude.h"), "-o", str(out),
            ],
            "the emulator's prelude",
            out.parent,
        )  # fmt: skip

    return disk.stored(key, ".pch", make, exclusive=True)


@cache
def prelude_digest() -> str:
    """Of everything that a kernel's text is compiled against, and of how it is rewritten."""
    files = sorted(p for p in (_HERE / "include").rglob("*") if p.is_file())
    return disk.digest(
        *(f"{p.relative_to(_HERE)}\n{p.read_text()}" for p in files),
        *((_HERE / f"{name}.py").read_text() for name in _TRANSLATION),
        _mlx_utils(),
        _PRELUDE,
    )


@cache
def _mlx_utils() -> str:
    """MLX's own utilities from the installed wheel, or the names that kernels use most."""
    spec = util.find_spec("mlx")
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root) / "include/mlx/backend/metal/kernels"
        if all((folder / f"{name}.h").exists() for name in _MLX_UTILS):
            parts = ((folder / f"{name}.h").read_text() for name in _MLX_UTILS)
            text = "\n".join(parts).replace("#pragma once", "")
            # A string literal is constant here and so must be what takes it.
            return re.sub(r"(?<=[(, ])constant char\*", "constant const char*", text)
    return "typedef half float16_t;\ntypedef bfloat bfloat16_t;\n"


def headers() -> Path:
    """Our headers and MLX's, rewritten like a kernel; a folder that never changes."""

    def make(out: Path) -> None:
        shutil.copytree(_HERE / "include", out)
        (out / "mlx_utils.h").write_text("#pragma once\n" + rewrite(_mlx_utils()))
        (out / "prelude.h").write_text(_PRELUDE)

    return disk.stored(prelude_digest(), "-headers", make, exclusive=True)
