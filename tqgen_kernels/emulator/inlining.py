"""Makes functions of LLVM text inline, so that pointers given to a helper stay in sight."""

import re

from tqgen_kernels.emulator.pointers import ALLOCA, DEFINE, GEP, NAMES, STORE, VALUE

_RETURNED = re.compile(rf"^  ({VALUE}) = call ")


def hands_out_variables(ir: str) -> bool:
    """Whether an author's function gives a callee a pointer to one of its variables or tables.

    Or takes a struct from one, in whose fields it may not have written.
    """
    inside, pointers, structs, returned = False, set[str](), set[str](), set[str]()
    for line in ir.split("\n"):
        if line.startswith("define "):
            inside, pointers, structs, returned = bool(DEFINE.match(line)), set(), set(), set()
        elif inside and (match := ALLOCA.match(line)):
            pointers.add(match["name"])
            if match["type"].startswith("%"):
                structs.add(match["name"])
        elif inside and (match := STORE.match(line)):
            if match["value"] in returned and match["to"] in structs:
                return True
        elif inside and (match := GEP.match(line)):
            if match["base"] in pointers or match["base"][0] == "@":
                pointers.add(match["name"])
        elif inside and " call " in line and "@llvm." not in line and "@__ubsan" not in line:
            arguments = line[line.index("(") :] if "(" in line else ""
            if match := _RETURNED.match(line):
                returned.add(match[1])
            if "ptr " in arguments and (
                "@" in arguments or pointers & set(NAMES.findall(arguments))
            ):
                return True
    return False


def made_inline(ir: str, kernel: str) -> str:
    """`ir` in which all functions but `kernel` and the entry points ask to be inlined."""
    never = {
        match[1]
        for match in re.finditer(
            r"^attributes (#\d+) = \{[^}]*\b(?:noinline|alwaysinline)\b", ir, re.M
        )
    }

    def mark(match: re.Match[str]) -> str:
        ours = re.match(rf"(_Z\d+)?{kernel}|tq_", match["name"])  # a lambda has it further on
        if match["group"] in never or ours:
            return match[0]
        return f"{match['head']} alwaysinline{match['tail']}"

    text = re.sub(
        r"^(?P<head>define .*?@\"?(?P<name>[\w.$]+)\"?\(.*\).*? (?P<group>#\d+))(?P<tail>.*\{)$",
        mark, ir, flags=re.M,
    )  # fmt: skip
    return _without_marks_of_ours(text)


def _without_marks_of_ours(ir: str) -> str:
    """Variables of the prelude, which has no debug lines, are not the author's."""
    out, ours = [], False
    for line in ir.split("\n"):
        if line.startswith("define "):
            ours = not DEFINE.match(line)
        out.append(re.sub(r", !annotation !\d+", "", line) if ours else line)
    return "\n".join(out)
