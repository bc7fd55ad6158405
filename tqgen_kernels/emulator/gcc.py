"""The second front end: plain C++ for g++, with address spaces erased."""

import re

from tqgen_kernels.emulator.compiler import Compiler, machine_flags

_LANGUAGE = [
    "-std=c++17", "-fPIC", "-fsingle-precision-constant", "-ffp-contract=off", "-fno-math-errno",
    "-fvisibility=hidden", "-g1", "-fno-diagnostics-show-caret", "-fmax-errors=20",
    "-fno-finite-loops", "-fno-delete-null-pointer-checks", "-fno-strict-aliasing",
    "-Wno-attributes", "-Wno-unknown-pragmas", "-Wno-psabi", "-fno-exceptions", "-fno-rtti",
    "-fstack-clash-protection",
]  # fmt: skip
_FAST = ["-O2"]
_CHECKED = [
    "-O1", "-DTQ_CHECKED=1", "-fsanitize=thread",
    "-fsanitize=bounds,alignment,integer-divide-by-zero,float-cast-overflow,shift",
    "-fsanitize-recover=all", "--param", "tsan-instrument-func-entry-exit=0",
]  # fmt: skip
_FILLED = ["-ftrivial-auto-var-init=pattern"]  # since 12


def gcc_flags(compiler: Compiler, checked: bool) -> list[str]:
    """Before 12, what a thread reads of its own variables without a write is not seen."""
    version = re.search(r"(\d+)\.\d+\.\d+", compiler.identity)
    filled = _FILLED if version and int(version[1]) >= 12 else []
    return [*_LANGUAGE, *machine_flags(), *([*_CHECKED, *filled] if checked else _FAST)]
