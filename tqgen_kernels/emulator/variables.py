"""Watches a thread's own variables: reads before a write, and accesses beyond them by pointer.

Works on unoptimised LLVM text in which the author's functions are inlined, so that a pointer given
to a helper is still known by the variable it points into. Each variable without initialiser (clang
fills those, marked `!annotation`) gets a twin whose bits say which of its bits were written. Stores
and loads are mirrored there; the optimiser removes what it can prove. A pointer's offset into its
variable is computed beside it. A variable whose address goes out of sight is left alone.
"""

import re
from collections.abc import Iterable

from tqgen_kernels.emulator.pointers import (
    ALLOCA,
    DEFINE,
    GEP,
    LOAD,
    MEMORY,
    NAMES,
    STORE,
    VALUE,
    Function,
    analysed,
    twin_type,
)

_INSERT = re.compile(
    rf"^  (?P<name>{VALUE}) = insertelement (?P<type><[^>]*>) (?P<vector>[^,]+), "
    r"[^,]+(?:\([^)]*\))?, (?P<index>i\d+ [^,]+)"
)
_EXTRACT = re.compile(
    rf"^  {VALUE} = extractelement (?P<type><[^>]*>) (?P<vector>{VALUE}), (?P<index>i\d+ [^,]+)"
)
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
    used = _Used()
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


class _Used:
    """Names and checks that a module needs."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.whole: set[str] = set()
        self.bounds = False

    def name(self, variable: str) -> str:
        """Pointer to the author's name of a variable."""
        plain = variable.strip('%@"')
        if mangled := re.match(r"_ZL?(?:N\d*\w*?)?(\d+)(\w+)", plain):
            plain = mangled[2][: int(mangled[1])]
        plain = re.sub(r"(\.i\d*)+$", "", plain)
        return self.names.setdefault(plain, f"@tq_variable.{len(self.names)}")

    def definitions(self) -> Iterable[str]:
        for name, pointer in self.names.items():
            yield f'{pointer} = private constant [{len(name) + 1} x i8] c"{name}\\00"'
        yield from (_read_check(kind) for kind in sorted(self.whole))
        if self.bounds:
            yield _BOUNDS_CHECK
        yield "declare void @tq_uninitialised_variable(ptr)"
        yield "declare void @tq_beyond_variable(i64, i64, i64, i32, ptr)"


_BOUNDS_CHECK = """\
define internal void @tq_check_within(i64 %at, i64 %size, i64 %bytes, i64 %element, i32 %space, \
ptr %name) alwaysinline {
  %last = sub i64 %bytes, %size
  %bad = icmp ugt i64 %at, %last
  br i1 %bad, label %report, label %fine
report:
  call void @tq_beyond_variable(i64 %at, i64 %bytes, i64 %element, i32 %space, ptr %name)
  br label %fine
fine:
  ret void
}"""


def _read_check(kind: str) -> str:
    """Of a scalar no bit was written, or not every component of a vector."""
    name = re.sub(r"\W+", "_", kind).strip("_")
    vector = re.match(r"<(\d+) x", kind)
    if vector:
        test = (
            f"  %each = icmp eq {kind} %written, zeroinitializer\n"
            f"  %packed = bitcast <{vector[1]} x i1> %each to i{vector[1]}\n"
            f"  %bad = icmp ne i{vector[1]} %packed, 0\n"
        )
    else:
        test = f"  %bad = icmp eq {kind} %written, 0\n"
    return (
        f"define internal void @tq_check_written_{name}({kind} %written, ptr %name) alwaysinline "
        f"{{\n{test}  br i1 %bad, label %report, label %fine\nreport:\n"
        "  call void @tq_uninitialised_variable(ptr %name)\n"
        "  br label %fine\nfine:\n  ret void\n}"
    )


class _Checks:
    """One function's lines, with its checks."""

    def __init__(self, f: Function, tables: dict[str, str], used: _Used) -> None:
        self.f, self.tables, self.used = f, tables, used
        self.out: list[str] = []
        self.count = 0
        self.offsets: dict[str, str] = {}  # pointer -> its offset into its variable
        self.vectors: dict[str, tuple[str, str, str]] = {}  # value -> twin, its type, variable

    def fresh(self) -> str:
        self.count += 1
        return f"%tq.{self.count}"

    def emit(self, text: str) -> str:
        """A new value."""
        name = self.fresh()
        self.out.append(f"  {name} = {text}")
        return name

    def twin(self, pointer: str) -> str | None:
        """Where it is said which bits at `pointer` were written."""
        root = self.f.into.get(pointer)
        if root is None or root not in self.f.filled or root in self.f.lost:
            return None
        return self.emit(f"getelementptr i8, ptr {_twin(root)}, i64 {self.offset(pointer)}")

    def offset(self, pointer: str) -> str:
        return self.offsets.get(pointer, "0")

    def within(self, pointer: str, size: str, write: bool, debug: str) -> None:
        """Checks an access, unless it is at the start of the variable."""
        root = self.f.into.get(pointer)
        if root is None or pointer == root or self.offset(pointer) == "0":
            return
        kind = self.tables.get(root) or self.f.types[root]
        element = kind
        if kind.startswith("<{"):  # an array whose end is zeros
            element = kind[2:].split(",")[0].strip()
        while match := re.fullmatch(r"\[\d+ x (.*)\]", element):
            element = match[1]
        self.used.bounds = True
        what = int(root in self.tables) + 2 * write
        self.out.append(
            f"  call void @tq_check_within(i64 {self.offset(pointer)}, i64 {size}, "
            f"i64 {_size(kind)}, i64 {_size(element)}, i32 {what}, "
            f"ptr {self.used.name(root)}){debug}"
        )

    def written(self, kind: str, value: str, variable: str, debug: str) -> None:
        self.used.whole.add(kind)
        variable = self.f.copies.get(variable, variable)
        name = re.sub(r"\W+", "_", kind).strip("_")
        self.out.append(
            f"  call void @tq_check_written_{name}({kind} {value}, "
            f"ptr {self.used.name(variable)}){debug}"
        )


def _twin(variable: str) -> str:
    return (
        "%tq.twin." + variable.strip('%"') if '"' not in variable else f'%"tq.twin.{variable[2:]}'
    )


def _size(kind: str) -> str:
    return f"ptrtoint (ptr getelementptr ({kind}, ptr null, i64 1) to i64)"


def _checked(body: list[str], f: Function, tables: dict[str, str], used: _Used) -> list[str]:
    c = _Checks(f, tables, used)
    for line in body:
        found = _DEBUG.search(line)
        debug = f", {found[0]}" if found else ""
        if match := ALLOCA.match(line):
            c.out.append(line)
            name = match["name"]
            if name in f.filled and name not in f.lost:
                c.out.append(f"  {_twin(name)} = alloca {match['type']}, align {match['align']}")
            if f.slots.get(name):
                c.out.append(f"  {_twin(name + '.at')} = alloca i64, align 8")
        elif match := GEP.match(line):
            c.out.append(line)
            _gep(c, match)
        elif match := LOAD.match(line):
            _load(c, line, match, debug)
        elif match := STORE.match(line):
            _store(c, line, match, debug)
        elif match := MEMORY.match(line):
            _memory(c, line, match)
        elif c.vectors and "!nosanitize" not in line:
            _use(c, line, debug)
        else:
            c.out.append(line)
    return c.out


def _gep(c: _Checks, match: re.Match[str]) -> None:
    if match["base"] not in c.f.into:
        return
    moved = c.emit(f"getelementptr {match['rest'].replace('ptr ' + match['base'], 'ptr null', 1)}")
    by = c.emit(f"ptrtoint ptr {moved} to i64")
    base = c.offset(match["base"])
    c.offsets[match["name"]] = by if base == "0" else c.emit(f"add i64 {base}, {by}")


def _load(c: _Checks, line: str, match: re.Match[str], debug: str) -> None:
    kind, pointer = match["type"], match["from"]
    integers = twin_type(kind)
    if integers and debug:
        c.within(pointer, _size(_loaded(kind)), False, debug)
    c.out.append(line)
    if match["name"] in c.f.into and c.f.slots.get(pointer):
        c.offsets[match["name"]] = c.emit(f"load i64, ptr {_twin(pointer + '.at')}")
    twin = c.twin(pointer) if integers else None
    if twin is None or integers is None:
        _compare_with_pattern(c, match, debug)
        return
    value = c.emit(f"load {integers}, ptr {twin}, align 1")
    variable = c.f.into[pointer]
    if kind[0] == "<":
        c.vectors[match["name"]] = value, integers, variable
    elif debug:
        if variable in c.f.copies:  # an argument may have fields that nobody reads
            whole = c.emit(f"icmp eq i64 {_size(kind)}, {_size(c.f.types[variable])}")
            value = c.emit(f"select i1 {whole}, {integers} {value}, {integers} -1")
        c.written(integers, value, variable, debug)


def _compare_with_pattern(c: _Checks, match: re.Match[str], debug: str) -> None:
    """A float of a variable out of sight: it is filled with a NaN that no arithmetic makes."""
    root = c.f.into.get(match["from"])
    if match["type"] in ("float", "half", "bfloat") and root in c.f.filled and debug:
        kind = twin_type(match["type"])
        bits = c.emit(f"bitcast {match['type']} {match['name']} to {kind}")
        c.written(str(kind), c.emit(f"xor {kind} {bits}, -1"), str(root), debug)


def _loaded(kind: str) -> str:
    """A vector of 3 is loaded as one of 4, the last of which nobody sees."""
    return re.sub(r"^<4 x", "<3 x", kind) if kind.startswith("<4 x") else kind


def _store(c: _Checks, line: str, match: re.Match[str], debug: str) -> None:
    kind, pointer, value = match["type"], match["to"], match["value"]
    integers = twin_type(kind)
    if integers and debug and "!annotation" not in line:
        c.within(pointer, _size(_loaded(kind)), True, debug)
    c.out.append(line)
    if c.f.slots.get(pointer) and "!annotation" not in line:
        c.out.append(f"  store i64 {c.offset(value)}, ptr {_twin(pointer + '.at')}")
    twin = c.twin(pointer) if integers else None
    if twin is None or integers is None:
        if value in c.vectors and debug:
            known, of, variable = c.vectors[value]
            c.written(of, known, variable, debug)
        return
    if "!annotation" in line:
        state = "zeroinitializer" if kind[0] == "<" else "0"
    elif value in c.vectors:
        state = c.vectors[value][0]
    else:
        state = _all_written(integers)
    c.out.append(f"  store {integers} {state}, ptr {twin}, align 1")


def _all_written(kind: str) -> str:
    vector = re.match(r"<\d+ x (i\d+)>", kind)
    return f"splat ({vector[1]} -1)" if vector else "-1"


def _memory(c: _Checks, line: str, match: re.Match[str]) -> None:
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


def _use(c: _Checks, line: str, debug: str) -> None:
    """A line that may read a vector of which not every component was written."""
    if match := _EXTRACT.match(line):
        if match["vector"] in c.vectors and debug:
            twin, kind, variable = c.vectors[match["vector"]]
            one = c.emit(f"extractelement {kind} {twin}, {match['index']}")
            c.written(kind.split(" x ")[1][:-1], one, variable, debug)
    elif match := _INSERT.match(line):
        if match["vector"] in c.vectors:
            twin, kind, variable = c.vectors[match["vector"]]
            element = kind.split(" x ")[1][:-1]
            new = c.emit(f"insertelement {kind} {twin}, {element} -1, {match['index']}")
            c.vectors[match["name"]] = new, kind, variable
    elif match := _SHUFFLE.match(line):
        _shuffle(c, match)
    elif " = phi " not in line and debug:
        for name in dict.fromkeys(NAMES.findall(line)):
            if name in c.vectors:
                twin, kind, variable = c.vectors[name]
                c.written(kind, twin, variable, debug)
    c.out.append(line)


def _shuffle(c: _Checks, match: re.Match[str]) -> None:
    known = [c.vectors.get(match["a"]), c.vectors.get(match["b"])]
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
    c.vectors[match["name"]] = new, kind, first[2]
