"""Adds checks to LLVM text, before optimisation, which no option of clang adds: of shifts, and of
divisions of vectors.

C++ for OpenCL defines a shift by too much, so clang's own check stays out. The amount is masked,
and the mask is the trace it leaves: an `and` named `shl.mask` or `shr.mask`.
"""

import re

_MASKED = re.compile(
    r"^(?P<indent> +)%sh[lr]\.mask\w* = and (?P<type><\d+ x i\d+>|i\d+) (?P<amount>[^,]+), "
    r"(?P<mask>\d+|splat \(i\d+ \d+\)|<[^>]*>)(?P<debug>, !dbg !\d+)?$",
    re.MULTILINE,
)


_DIVIDED = re.compile(
    r"^  %\S+ = [us](?:div|rem) (?P<type><(?P<lanes>\d+) x i(?P<bits>\d+)>) [^,]*(?:<[^>]*>)?, "
    r"(?P<by>%\S+|<[^>]*>|zeroinitializer)(?P<debug>, !dbg !\d+)$",
    re.MULTILINE,
)


def check_divisions(ir: str) -> str:
    """`ir` with a call before every division of vectors of integers by what is not a constant."""
    types: dict[str, tuple[int, int]] = {}

    def add(match: re.Match[str]) -> str:
        if not match["by"].startswith("%"):
            return match[0]
        lanes, bits = int(match["lanes"]), int(match["bits"])
        types[match["type"]] = lanes, bits
        name = f"@tq_check_divisor_{lanes}_x_i{bits}"
        return f"  call void {name}({match['type']} {match['by']}){match['debug']}\n{match[0]}"

    checked = _DIVIDED.sub(add, ir)
    if not types:
        return ir
    definitions = "\n".join(
        f"define internal void @tq_check_divisor_{lanes}_x_i{bits}({kind} %n) alwaysinline {{\n"
        f"  %each = icmp eq {kind} %n, zeroinitializer\n"
        f"  %packed = bitcast <{lanes} x i1> %each to i{lanes}\n"
        f"  %bad = icmp ne i{lanes} %packed, 0\n"
        "  br i1 %bad, label %report, label %fine\nreport:\n"
        "  call void @tq_division_by_zero()\n  br label %fine\nfine:\n  ret void\n}"
        for kind, (lanes, bits) in types.items()
    )
    return f"{checked}\n{definitions}\ndeclare void @tq_division_by_zero()\n"


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
