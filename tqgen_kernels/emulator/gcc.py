"""The second front end: plain C++ for g++, with address spaces erased."""

from tqgen_kernels.emulator.compiler import machine_flags

_LANGUAGE = [
    "-std=c++17", "-fPIC", "-fsingle-precision-constant", "-ffp-contract=off", "-fno-math-errno",
    "-fvisibility=hidden", "-g1", "-fno-diagnostics-show-caret", "-fmax-errors=20",
    "-fno-finite-loops", "-fno-delete-null-pointer-checks", "-fno-strict-aliasing",
    "-Wno-attributes", "-Wno-unknown-pragmas", "-Wno-psabi", "-fno-exceptions", "-fno-rtti",
]  # fmt: skip
_FAST = ["-O2"]
_CHECKED = [
    "-O1", "-DTQ_CHECKED=1", "-ftrivial-auto-var-init=pattern", "-fsanitize=thread",
    "-fsanitize=bounds,alignment,integer-divide-by-zero,float-cast-overflow,shift",
    "-fsanitize-recover=all", "--param", "tsan-instrument-func-entry-exit=0",
]  # fmt: skip


def gcc_flags(checked: bool) -> list[str]:
    return [*_LANGUAGE, *machine_flags(), *(_CHECKED if checked else _FAST)]
