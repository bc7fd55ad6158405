"""Adds checks to LLVM text, before optimisation, that no option of clang adds.

Shifts: C++ for OpenCL defines a shift by too much, so clang's own check stays out. The amount is
masked, and the mask is the trace it leaves: an `and` named `shl.mask` or `shr.mask`.

Variables: those without initialiser are filled with a pattern (-ftrivial-auto-var-init), in which
floats are NaNs with every bit set. No arithmetic makes that NaN, so a float that has it when it is
read was never written. Integers have no such value; vectors are read whole to write a component.
"""

import re

_MASKED = re.compile(
    r"^(?P<indent> +)%sh[lr]\.mask\w* = and (?P<type><\d+ x i\d+>|i\d+) (?P<amount>[^,]+), "
    r"(?P<mask>\d+|splat \(i\d+ \d+\)|<[^>]*>)(?P<debug>, !dbg !\d+)?$",
    re.MULTILINE,
)


def check_shifts(ir: str) -> str:
    """`ir` with a call before every shift whose amount is not a constant that fits."""
    types: dict[str, str] = {}

    def add(match: re.Match[str]) -> str:
        amount = match["amount"]
        if amount.isdecimal() and match["mask"].isdecimal() and int(amount) <= int(match["mask"]):
            return match[0]
        name = re.sub(r"\W+", "_", match["type"]).strip("_")
        types[match["type"]] = name
        debug = match["debug"] or ""
        call = f"call void @tq_check_shift_{name}({match['type']} {amount}){debug}"
        return f"{match['indent']}{call}\n{match[0]}"

    checked = _MASKED.sub(add, ir)
    if not types:
        return ir
    definitions = "\n".join(_definition(kind, name) for kind, name in types.items())
    return f"{checked}\n{definitions}\ndeclare void @tq_shift_out_of_range(i64, i32)\n"


def _definition(kind: str, name: str) -> str:
    """An inlined comparison; without debug lines of its own it takes those of its caller."""
    vector = re.match(r"<(\d+) x i(\d+)>", kind)
    lanes, bits = (int(vector[1]), int(vector[2])) if vector else (1, int(kind[1:]))
    if vector:
        limits = ", ".join([f"i{bits} {bits - 1}"] * lanes)
        test = (
            f"  %each = icmp ugt {kind} %n, <{limits}>\n"
            f"  %packed = bitcast <{lanes} x i1> %each to i{lanes}\n"
            f"  %bad = icmp ne i{lanes} %packed, 0\n"
            f"  %one = extractelement {kind} %n, i32 0\n"
        )
        value = "%one"
    else:
        test = f"  %bad = icmp ugt {kind} %n, {bits - 1}\n"
        value = "%n"
    widen = f"  %wide = sext i{bits} {value} to i64\n" if bits < 64 else ""
    wide = "%wide" if bits < 64 else value
    return (
        f"define internal void @tq_check_shift_{name}({kind} %n) alwaysinline {{\n{test}"
        "  br i1 %bad, label %report, label %fine\nreport:\n"
        f"{widen}  call void @tq_shift_out_of_range(i64 {wide}, i32 {bits})\n"
        "  br label %fine\nfine:\n  ret void\n}"
    )


_DEFINE = re.compile(r"^define .* !dbg !\d+ \{$")
_FILLED = re.compile(
    r"^  (?:store .*, ptr %(?P<store>[\w.]+), align \d+"
    r"|call void @llvm\.memset\S+ %(?P<set>[\w.]+),.*?\)).*!annotation !\d+$"
)
_ELEMENT = re.compile(r"^  %(?P<name>[\w.]+) = getelementptr .*ptr %(?P<base>[\w.]+), i")
_LOAD = re.compile(
    r"^  %(?P<name>[\w.]+) = load (?P<type>float|half|bfloat), ptr %(?P<from>[\w.]+), align \d+, "
    r"(?P<debug>!dbg !\d+)"
)
_BITS = {"float": 32, "half": 16, "bfloat": 16}


def check_variables(ir: str) -> str:
    """`ir` with a check of each float that an author's function reads from such a variable."""
    out: list[str] = []
    roots: dict[str, str] = {}  # what points into a variable that has been filled -> its name
    elements: dict[str, str] = {}  # pointer -> what it points into
    types: set[str] = set()
    names: set[str] = set()
    inside = False
    for line in ir.split("\n"):
        out.append(line)
        if line.startswith("define "):
            inside = bool(_DEFINE.match(line))
            roots, elements = {}, {}
        if not inside:
            continue
        if match := _ELEMENT.match(line):
            elements[match["name"]] = elements.get(match["base"], match["base"])
        elif match := _FILLED.match(line):
            filled = match["store"] or match["set"]
            variable = elements.get(filled, filled)
            roots[variable] = variable
        elif match := _LOAD.match(line):
            variable = elements.get(match["from"], match["from"])
            if variable in roots:
                types.add(match["type"])
                names.add(variable)
                out.append(
                    f"  call void @tq_check_read_{match['type']}({match['type']} "
                    f"%{match['name']}, ptr @tq_variable.{variable}), {match['debug']}"
                )
    if not names:
        return ir
    out += [
        f'@tq_variable.{name} = private constant [{len(name) + 1} x i8] c"{name}\\00"'
        for name in sorted(names)
    ]
    out += [_read_check(kind) for kind in sorted(types)]
    return "\n".join([*out, "declare void @tq_uninitialised_variable(ptr)", ""])


def _read_check(kind: str) -> str:
    bits = _BITS[kind]
    return (
        f"define internal void @tq_check_read_{kind}({kind} %x, ptr %name) alwaysinline {{\n"
        f"  %bits = bitcast {kind} %x to i{bits}\n  %bad = icmp eq i{bits} %bits, -1\n"
        "  br i1 %bad, label %report, label %fine\nreport:\n"
        "  call void @tq_uninitialised_variable(ptr %name)\n"
        "  br label %fine\nfine:\n  ret void\n}"
    )
