"""What Metal would refuse in a text, found without running it.

The list follows the restrictions that the Metal Shading Language puts on C++. Apple's compiler has
the last word; nothing here has been compared with it.
"""

from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
from tqgen_kernels.emulator.checker.tokens import NEWEST_COMMON, check_tokens

_VERSIONS = ((3, 1), (3, 2), (4, 0))


def check(text: str, *, msl: tuple[int, int] = NEWEST_COMMON) -> list[Diagnostic]:
    """Diagnostics of a whole Metal text, as MLX generates it or as a .metal file holds it.

    text: everything that Metal would compile, without MLX's own utilities.
    msl: the version of the language to check for: (3, 1) is that of macOS 14.

    Raises:
        ValueError: an unknown version.
        MetalCompileError: no compiler is installed, or the only one is g++.
    """
    if msl not in _VERSIONS:
        known = ", ".join(f"{major}.{minor}" for major, minor in _VERSIONS)
        raise ValueError(f"Metal version {msl}: known are {known}")
    from tqgen_kernels.emulator.checker.clang import parse
    from tqgen_kernels.emulator.checker.tree import check_tree
    from tqgen_kernels.emulator.compiler import find_compiler
    from tqgen_kernels.emulator.faults import MetalCompileError

    compiler = find_compiler()
    if compiler.kind == "gcc":
        raise MetalCompileError(
            "The static check needs clang; only g++ was found. "
            "Install it with\n    pip install 'tqgen-kernels[emulator]'"
        )
    parsed = parse(text, compiler)
    tree = check_tree(parsed.tree, text)
    if any(d.rule == "compile" for d in parsed.diagnostics):
        # Calls of which clang does not know the types may seem to lead anywhere.
        tree = [d for d in tree if d.rule != "recursion"]
    by_line: dict[tuple[int, str], Diagnostic] = {}
    for diagnostic in (
        *check_tokens(text, msl),
        *tree,
        *parsed.diagnostics,
    ):
        by_line.setdefault((diagnostic.line, diagnostic.rule), diagnostic)
    # Where a rule of Metal says what is wrong, the front end's own words only repeat it.
    named = {d.line for d in by_line.values() if d.rule != "compile"}
    kept = [d for d in by_line.values() if d.rule != "compile" or d.line not in named]
    return sorted(kept, key=lambda d: (d.line, d.column))
