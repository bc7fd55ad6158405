"""Finds a compiler that takes Metal text, and runs it."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from tqgen_kernels.emulator import cache as disk
from tqgen_kernels.emulator.faults import MetalCompileError
from tqgen_kernels.emulator.messages import in_metal_terms

NO_COMPILER = (
    "No compiler for the Metal emulator was found. Install one with\n"
    "    pip install 'tqgen-kernels[emulator]'\n"
    "or have clang >= 17 or g++ >= 11 on the PATH, or name one in TQGEN_EMULATOR_COMPILER."
)


@dataclass(frozen=True, slots=True)
class Compiler:
    """`identity` changes whenever what it produces may."""

    kind: Literal["ziglang", "clang", "gcc"]
    path: str
    identity: str

    @property
    def clang(self) -> list[str]:
        """The command that takes clang's own arguments."""
        return [self.path, "clang"] if self.kind == "ziglang" else [self.path]


def find_compiler(explicit: str | None = None) -> Compiler:
    """The compiler to use: `explicit` or TQGEN_EMULATOR_COMPILER, ziglang, clang >= 17, g++ >= 11.

    Raises:
        MetalCompileError: there is none, or the explicit one is too old or unknown.
    """
    return _find(
        explicit or os.environ.get("TQGEN_EMULATOR_COMPILER") or "", os.environ.get("PATH", "")
    )


def is_available() -> bool:
    """Whether there is a compiler to run kernels with."""
    try:
        find_compiler()
    except MetalCompileError:
        return False
    return True


@cache
def _find(explicit: str, path: str) -> Compiler:
    if explicit:
        located = shutil.which(explicit)
        found = _describe(located) if located else None
        if found is None:
            raise MetalCompileError(
                f"The compiler {explicit!r} cannot be used: give zig, clang >= 17 or g++ >= 11."
            )
        return found
    bundled = _bundled_zig()
    if bundled is not None:
        return bundled
    names = ["clang++", "clang"] + [f"clang-{n}" for n in range(30, 16, -1)]
    names += ["g++"] + [f"g++-{n}" for n in range(20, 10, -1)]
    for name in names:
        located = shutil.which(name, path=path)
        found = _describe(located) if located else None
        if found is not None:
            return found
    raise MetalCompileError(NO_COMPILER)


def _bundled_zig() -> Compiler | None:
    spec = util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    program = Path(next(iter(spec.submodule_search_locations))) / "zig"
    if not program.exists():
        return None
    return Compiler("ziglang", str(program), f"ziglang {metadata.version('ziglang')}")


def _describe(path: str) -> Compiler | None:
    """None if the program is no compiler or too old."""
    if Path(path).name == "zig":
        version = run([path, "version"]).stdout.strip()
        return Compiler("ziglang", path, f"zig {version}")
    done = run([path, "--version"])
    first = done.stdout.splitlines()[0] if done.stdout else ""
    clang = re.search(r"clang version (\d+)", done.stdout)
    if clang:
        return Compiler("clang", path, first) if int(clang[1]) >= 17 else None
    gcc = re.search(r"(\d+)\.\d+\.\d+", first)
    if gcc and ("g++" in first or "gcc" in first.lower()):
        return Compiler("gcc", path, first) if int(gcc[1]) >= 11 else None
    return None


def run(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with its output as text."""
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, errors="replace", check=False
    )


def compile_or_raise(command: list[str], what: str, cwd: Path) -> None:
    """Runs a compiler or linker.

    Raises:
        MetalCompileError: it failed; the message is the compiler's, with the author's lines.
    """
    zig = str(disk.directory() / "zig")
    env = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig, "LC_ALL": "C"}
    done = run(command, cwd=cwd, env=env)
    if done.returncode:
        raise MetalCompileError(f"{what} does not compile:\n{in_metal_terms(done.stderr)}")


@cache
def machine_flags() -> tuple[str, ...]:
    """Flags for this processor: without half conversions in hardware, kernels run much slower."""
    if sys.platform != "linux":
        return ()
    if platform.machine() != "x86_64":
        return ()
    try:
        features = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ()
    return ("-march=x86-64-v3",) if {"avx2", "f16c", "fma", "bmi2", "movbe"} <= features else ()


def target() -> str:
    machine = {"arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return f"{machine}-apple-macos13" if sys.platform == "darwin" else f"{machine}-linux-gnu"
