"""Watches a thread's own variables: reads before a write, and accesses beyond them by pointer.

Works on unoptimised LLVM text in which the author's functions are inlined, so that a pointer given
to a helper is still known by the variable it points into. Each variable without initialiser (clang
fills those, marked `!annotation`) gets a twin whose bits say which of its bits were written. Stores
and loads are mirrored there; the optimiser removes what it can prove. A pointer's offset into its
variable is computed beside it. A variable whose address goes out of sight is left alone.
"""

import re

from tqgen_kernels.emulator.called import Called
from tqgen_kernels.emulator.pointers import (
    ALLOCA,
    CHOICE,
    DEFINE,
    GEP,
    INCOMING,
    LOAD,
    MEMORY,
    NAMES,
    STORE,
    VALUE,
    Function,
    analysed,
    chosen,
    twin_type,
)
from tqgen_kernels.emulator.watch import Checks, Read, size_of, twin_of

_INSERT = re.compile(
    rf"^  (?P<name>{VALUE}) = insertelement (?P<type><[^>]*>) (?P<vector>[^,]+), "
    r"\w+ (?P<element>[^,]+(?:\([^)]*\))?), (?P<index>i\d+ [^,]+)"
)
_EXTRACT = re.compile(
    rf"^  (?P<name>{VALUE}) = extractelement (?P<type><[^>]*>) (?P<vector>{VALUE}), "
    r"(?P<index>i\d+ [^,]+)"
)
_PHI = re.compile(rf"^  (?P<name>{VALUE}) = phi \S.*? (?P<incoming>\[ .*\])")
_SHUFFLE = re.compile(
    rf"^  (?P<name>{VALUE}) = shufflevector (?P<type><[^>]*>) (?P<a>{VALUE}|poison|[^%].*?), "
    rf"(?P<type2><[^>]*>) (?P<b>{VALUE}|poison|[^%].*?), <(?P<n>\d+) x i32> (?P<mask><.*?>|\w+)"
)
_GLOBAL = re.compile(
    r"^(?P<name>@[\w.$]+) = (?:[a-z_]+ )*(?:addrspace\(\d+\) )?constant "
    r"(?P<type>(?:\[\d+ x |<\{ ).*)$"
)
_DEBUG = re.compile(r"!dbg !\d+")


def check_variables(ir: str) -> str:
    """`ir` with the checks of every function that has debug lines."""
    tables = {m["name"]: _array_type(m["type"]) for m in map(_GLOBAL.match, ir.split("\n")) if m}
    out: list[str] = []
    used = Called()
    lines = ir.split("\n")
    at = 0
    while at < len(lines):
        if not DEFINE.match(lines[at]):
            out.append(lines[at])
            at += 1
            continue
        end = lines.index("}", at)
        body = lines[at + 1 : end]
        out += [lines[at], *_checked(body, analysed(body, tables), tables, used), "}"]
        at = end + 1
    if not used.names:
        return ir
    declared = {
        "@llvm.memset.p0.i64": "void (ptr, i8, i64, i1)",
        "@llvm.memmove.p0.p0.i64": "void (ptr, ptr, i64, i1)",
    }
    for name, signature in declared.items():
        if not re.search(rf"^declare .*{re.escape(name)}\(", ir, re.MULTILINE):
            out.append(f"declare {signature.replace(' (', f' {name}(', 1)}")
    return "\n".join([*out, *used.definitions(), ""])


def _array_type(text: str) -> str:
    """The type at the start of a global's definition."""
    depth = 0
    for i, character in enumerate(text):
        depth += {"[": 1, "<": 1, "{": 1, "]": -1, "}": -1, ">": -1}.get(character, 0)
        if depth == 0:
            return text[: i + 1]
    return text


def _checked(body: list[str], f: Function, tables: dict[str, str], used: Called) -> list[str]:
    c = Checks(f, tables, used)
    for line in body:
        found = _DEBUG.search(line)
        debug = f", {found[0]}" if found else ""
        if match := ALLOCA.match(line):
            c.out.append(line)
            name = match["name"]
            if name in f.filled and name not in f.lost:
                c.out.append(f"  {twin_of(name)} = alloca {match['type']}, align {match['align']}")
                if name in f.copies:
                    size = f"i64 {size_of(match['type'])}"
                    call = f"@llvm.memset.p0.i64(ptr {twin_of(name)}, i8 -1, {size}, i1 false)"
                    c.out.append(f"  call void {call}")
            c.out += [
                f"  {twin_of(slot, '.at')} = alloca i64, align 8"
                for slot in f.slots_of(name)
                if f.slots[slot]
            ]
        elif "!nosanitize" in line:
            c.out.append(line)
        elif match := GEP.match(line):
            c.used_by(NAMES.findall(line))
            c.out.append(line)
            _gep(c, match)
        elif (match := CHOICE.match(line)) and match["name"] in f.choices:
            c.out.append(line)
            if match["name"] not in f.lost:
                _choice(c, match)
        elif match := LOAD.match(line):
            c.used_by([match["from"]])
            _load(c, line, match, debug)
        elif match := STORE.match(line):
            c.used_by([match["to"]])
            _store(c, line, match, debug)
        elif match := MEMORY.match(line):
            _memory(c, line, match)
        else:
            _use(c, line)
    return c.out


def _gep(c: Checks, match: re.Match[str]) -> None:
    if match["base"] not in c.f.into:
        return
    moved = c.emit(f"getelementptr {match['rest'].replace('ptr ' + match['base'], 'ptr null', 1)}")
    by = c.emit(f"ptrtoint ptr {moved} to i64")
    base = c.offset(match["base"])
    c.offsets[match["name"]] = by if base == "0" else c.emit(f"add i64 {base}, {by}")


def _load(c: Checks, line: str, match: re.Match[str], debug: str) -> None:
    kind, pointer = match["type"], match["from"]
    integers = twin_type(kind)
    if integers and debug:
        c.within(pointer, size_of(_loaded(kind)), False, debug)
    c.out.append(line)
    slot = c.f.slot(pointer)
    if match["name"] in c.f.into and c.f.slots.get(slot):
        c.offsets[match["name"]] = c.emit(f"load i64, ptr {twin_of(slot, '.at')}")
    twin = c.twin(pointer) if integers else None
    if twin is None or integers is None:
        _compare_with_pattern(c, match, debug)
        return
    value = c.emit(f"load {integers}, ptr {twin}, align 1")
    variable = c.f.into[pointer]
    if kind[0] != "<" and variable in c.f.copies:  # an argument may have fields nobody reads
        whole = c.emit(f"icmp eq i64 {size_of(kind)}, {size_of(c.f.types[variable])}")
        value = c.emit(f"select i1 {whole}, {integers} {value}, {integers} -1")
    if debug and not match["name"].startswith("%bf.load"):  # a word that holds bit-fields
        c.read[match["name"]] = Read(value, integers, variable, debug)


def _compare_with_pattern(c: Checks, match: re.Match[str], debug: str) -> None:
    """A float of a variable out of sight: it is filled with a NaN that no arithmetic makes."""
    root = c.f.into.get(match["from"])
    if match["type"] in ("float", "half", "bfloat") and root in c.f.filled and debug:
        kind = twin_type(match["type"])
        bits = c.emit(f"bitcast {match['type']} {match['name']} to {kind}")
        c.written(c.emit(f"xor {kind} {bits}, -1"), str(kind), str(root), debug)


def _choice(c: Checks, match: re.Match[str]) -> None:
    """A pointer to one of several variables: so are what belongs to it."""
    name, pointers = match["name"], chosen(match)
    roots = [c.f.into[p] for p in pointers]

    def one_of(kind: str, values: list[str], to: str) -> str:
        if match["incoming"]:
            blocks = [block for _, block in INCOMING.findall(match["incoming"])]
            pairs = zip(values, blocks, strict=True)
            text = f"phi {kind} " + ", ".join(f"[ {value}, {block} ]" for value, block in pairs)
        else:
            text = f"select i1 {match['condition']}, " + ", ".join(f"{kind} {v}" for v in values)
        c.out.append(f"  {to} = {text}")
        return to

    if name in c.f.filled:
        one_of("ptr", [twin_of(root) for root in roots], twin_of(name))
    c.offsets[name] = one_of("i64", [c.offset(p) for p in pointers], twin_of(name, ".at"))
    sizes = [c.sizes.get(root) or size_of(c.f.types[root]) for root in roots]
    c.sizes[name] = one_of("i64", sizes, twin_of(name, ".size"))
    c.names[name] = one_of("ptr", [c.label(root) for root in roots], twin_of(name, ".name"))


def _loaded(kind: str) -> str:
    """A vector of 3 is loaded as one of 4, the last of which nobody sees."""
    return re.sub(r"^<4 x", "<3 x", kind) if kind.startswith("<4 x") else kind


def _store(c: Checks, line: str, match: re.Match[str], debug: str) -> None:
    kind, pointer, value = match["type"], match["to"], match["value"]
    integers = twin_type(kind)
    if integers and debug and "!annotation" not in line:
        c.within(pointer, size_of(_loaded(kind)), True, debug)
    c.out.append(line)
    slot = c.f.slot(pointer)
    if c.f.slots.get(slot) and "!annotation" not in line:
        c.out.append(f"  store i64 {c.offset(value)}, ptr {twin_of(slot, '.at')}")
    twin = c.twin(pointer) if integers else None
    if twin is None or integers is None:
        if value in c.read:
            c.stored(c.read[value], pointer)
        return
    if "!annotation" in line:
        state = "zeroinitializer" if kind[0] == "<" else "0"
    elif value in c.read:
        state = c.read[value].twin
    else:
        state = _all_written(integers)
    c.out.append(f"  store {integers} {state}, ptr {twin}, align 1")


def _all_written(kind: str) -> str:
    vector = re.match(r"<\d+ x (i\d+)>", kind)
    return f"splat ({vector[1]} -1)" if vector else "-1"


def _memory(c: Checks, line: str, match: re.Match[str]) -> None:
    c.out.append(line)
    twin = c.twin(match["to"])
    if twin is None:
        return
    source = match["from"].split()[-1]
    from_twin = c.twin(source) if match["what"] != "memset" and "!annotation" not in line else None
    if from_twin:
        c.out.append(
            f"  call void @llvm.memmove.p0.p0.i64(ptr {twin}, ptr {from_twin}, {match['size']}, "
            "i1 false)"
        )
    else:
        byte = 0 if "!annotation" in line else -1
        c.out.append(
            f"  call void @llvm.memset.p0.i64(ptr {twin}, i8 {byte}, {match['size']}, i1 false)"
        )


def _use(c: Checks, line: str) -> None:
    """A line that may use a value of which not every bit was written."""
    if match := _EXTRACT.match(line):
        if match["vector"] in c.read:
            twin, kind, variable, debug = c.read[match["vector"]]
            one = c.emit(f"extractelement {kind} {twin}, {match['index']}")
            c.read[match["name"]] = Read(one, kind.split(" x ")[1][:-1], variable, debug)
    elif match := _INSERT.match(line):
        if match["vector"] in c.read:
            twin, kind, variable, debug = c.read[match["vector"]]
            element = kind.split(" x ")[1][:-1]
            given = c.read.get(match["element"])
            new = c.emit(
                f"insertelement {kind} {twin}, {element} {given.twin if given else '-1'}, "
                f"{match['index']}"
            )
            c.read[match["name"]] = Read(new, kind, variable, debug)
        else:
            c.used_by([match["element"]])
    elif match := _SHUFFLE.match(line):
        _shuffle(c, match)
    elif match := _PHI.match(line):
        c.out.append(line)
        _phi(c, match)
        return
    else:
        c.used_by(NAMES.findall(line))
    c.out.append(line)


def _phi(c: Checks, match: re.Match[str]) -> None:
    """One of several values: `a ? b : c`."""
    incoming = INCOMING.findall(match["incoming"])
    known = [c.read[value] for value, _ in incoming if value in c.read]
    if not known:
        return
    kind = known[0].type
    twins = ", ".join(
        f"[ {c.read[value].twin if value in c.read else _all_written(kind)}, {block} ]"
        for value, block in incoming
    )
    new = c.emit(f"phi {kind} {twins}")
    c.read[match["name"]] = known[0]._replace(twin=new)


def _shuffle(c: Checks, match: re.Match[str]) -> None:
    known = [c.read.get(match["a"]), c.read.get(match["b"])]
    first = known[0] or known[1]
    if first is None:
        return
    element = first[1].split(" x ")[1][:-1]
    sides = []
    for side, kind in zip(known, (match["type"], match["type2"]), strict=True):
        integers = twin_type(kind) or first[1]
        sides.append(f"{integers} {side[0] if side else _all_written(integers)}")
    lanes = match["mask"].strip("<>").split(", ")
    if match["mask"][0] != "<":
        lanes = [f"i32 {'poison' if match['mask'] == 'poison' else '0'}"] * int(match["n"])
    kept = ", ".join("i32 0" if "poison" in lane or "undef" in lane else lane for lane in lanes)
    new = c.emit(f"shufflevector {sides[0]}, {sides[1]}, <{match['n']} x i32> <{kept}>")
    kind = f"<{match['n']} x {element}>"
    for i, lane in enumerate(lanes):
        if "poison" in lane or "undef" in lane:
            new = c.emit(f"insertelement {kind} {new}, {element} -1, i32 {i}")
    c.read[match["name"]] = Read(new, kind, first.variable, first.debug)
