"""Follows pointers into a thread's variables through unoptimised LLVM text."""

import re
from dataclasses import dataclass, field

VALUE = r'%(?:"[^"]*"|[-\w.$]+)'
_POINTER = rf"(?:{VALUE}|@(?:\"[^\"]*\"|[-\w.$]+))"
# An author's function: the prelude has no debug lines, and the entry points are ours, too.
DEFINE = re.compile(r"^define (?!void @tq_).* !dbg !\d+ \{$")
ALLOCA = re.compile(rf"^  (?P<name>{VALUE}) = alloca (?P<type>.*?), align (?P<align>\d+)")
GEP = re.compile(
    rf"^  (?P<name>{VALUE}) = getelementptr (?:inbounds |nuw |nusw )*(?P<rest>.*?ptr "
    rf"(?P<base>{_POINTER}), .*?)(?:, !dbg.*)?$"
)
LOAD = re.compile(
    rf"^  (?P<name>{VALUE}) = load (?P<type>.+?), ptr (?P<from>{_POINTER}), align \d+"
)
STORE = re.compile(
    rf"^  store (?P<type><[^>]*>|\S+) (?P<value>.*), ptr (?P<to>{_POINTER}), align \d+"
)
MEMORY = re.compile(
    r"^  call void @llvm\.(?P<what>memcpy|memmove|memset)\S*\(ptr (?:[a-z_]+(?: \d+)? )*"
    rf"(?P<to>{_POINTER}), (?P<from>[^,]*), (?P<size>i64 [^,]+), i1"
)
_PASSES_ON = re.compile(
    rf"^  (?P<name>{VALUE}) = (?:phi|insertelement|extractelement|shufflevector) "
)
# One of several pointers: `c ? a : b`.
CHOICE = re.compile(
    rf"^  (?P<name>{VALUE}) = (?:phi ptr (?P<incoming>\[ .* \])"
    rf"|select i1 (?P<condition>{VALUE}), ptr (?P<one>{VALUE}), ptr (?P<other>{VALUE}))"
)
INCOMING = re.compile(rf"\[ ([^,]+), ({VALUE}) \]")
_FIELD = re.compile(r", i32 0, i32 (\d+)$")
NAMES = re.compile(VALUE)
_BITS = {"float": 32, "double": 64, "half": 16, "bfloat": 16, "ptr": 64}
_HARMLESS = ("@llvm.lifetime", "@llvm.dbg", "#dbg", "!nosanitize", " icmp ")


@dataclass(slots=True)
class Function:
    """What is known of the pointers of one function."""

    types: dict[str, str] = field(default_factory=dict)  # variable -> its type
    filled: set[str] = field(default_factory=set)  # variables without initialiser
    # Pointer variable, or `STRUCT field N` of a struct -> into what it points, None if unknown.
    slots: dict[str, str | None] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)  # pointer -> the slot that it points to
    starts: set[str] = field(default_factory=set)  # pointers to the first byte of a variable
    into: dict[str, str] = field(default_factory=dict)  # pointer -> variable it points into
    choices: dict[str, list[str]] = field(default_factory=dict)  # pointer -> those it may be
    lost: set[str] = field(default_factory=set)  # variables that are out of sight
    copies: dict[str, str] = field(default_factory=dict)  # what a variable was copied to -> it

    def slot(self, pointer: str) -> str:
        """The slot that a pointer is, or points to; the pointer itself if there is none."""
        return self.fields.get(pointer, pointer)

    def slots_of(self, variable: str) -> list[str]:
        """The slots in a variable: itself, or fields of it."""
        return [s for s in self.slots if s == variable or s.startswith(f"{variable} field ")]


def analysed(body: list[str], tables: dict[str, str]) -> Function:
    f = Function()
    for line in body:
        if match := ALLOCA.match(line):
            f.types[match["name"]] = match["type"]
            if match["type"] == "ptr":
                f.slots[match["name"]] = ""
    inexact = set[str]()  # slots that also hold pointers to what is not the start of a variable
    while True:
        f.into = {name: name for name in (*f.types, *tables)}
        f.starts = set(f.into) - f.choices.keys()
        f.fields = {}
        before = dict(f.slots), set(inexact)
        for line in body:
            _follow(f, line, inexact)
        f.lost = set()
        for line in body:
            _lose(f, line)
        _copy(f, body)
        _choose(f)
        for variable in f.lost:  # others may write to it
            for slot in f.slots_of(variable):
                f.slots[slot] = None
        if (f.slots, inexact) == before:
            return f


def chosen(match: re.Match[str]) -> list[str]:
    """The pointers that a `CHOICE` chooses from."""
    if match["incoming"]:
        return [value for value, _ in INCOMING.findall(match["incoming"])]
    return [match["one"], match["other"]]


def _choose(f: Function) -> None:
    """A choice and all that it may be are watched together, or not at all."""
    while True:
        before = len(f.lost), len(f.filled)
        for name, pointers in f.choices.items():
            together = {name, *(f.into[p] for p in pointers)}
            if together & f.lost:
                f.lost |= together
            elif together & f.filled:
                for variable in together - f.filled:
                    f.filled.add(variable)
                    if variable != name:
                        f.copies[variable] = variable
        if before == (len(f.lost), len(f.filled)):
            return


def _follow(f: Function, line: str, inexact: set[str]) -> None:
    if match := CHOICE.match(line):
        pointers = chosen(match)
        roots = [f.types.get(f.into.get(p, ""), "ptr") for p in pointers]
        if "ptr" not in roots:  # variables, all of them
            f.into[match["name"]] = match["name"]
            f.types[match["name"]] = roots[0]
            f.choices[match["name"]] = pointers
        return
    if match := GEP.match(line):
        root = f.into.get(match["base"])
        if root is None:
            return
        f.into[match["name"]] = root
        found = _FIELD.search(match["rest"])
        if found and match["base"] in f.starts and root in f.types:
            f.fields[match["name"]] = f"{root} field {found[1]}"
        elif root in f.slots:  # a pointer that is taken apart
            f.slots[root] = None
    elif match := LOAD.match(line):
        _first_field(f, match["type"], match["from"])
        slot = f.slot(match["from"])
        into = f.slots.get(slot)
        if match["type"] == "ptr" and into:
            f.into[match["name"]] = into
            if slot not in inexact:
                f.starts.add(match["name"])
        elif slot in f.slots and match["type"] != "ptr":
            f.slots[slot] = None
    elif match := STORE.match(line):
        _first_field(f, match["type"], match["to"])
        slot = f.slot(match["to"])
        if "!annotation" in line:
            return
        if match["type"] == "ptr":
            _forget_chosen(f, match["to"])
        if slot not in f.slots:
            if match["type"] != "ptr" or match["to"] not in f.fields:
                return
            f.slots[slot] = ""
        into = f.into.get(match["value"]) if match["type"] == "ptr" else None
        if match["value"] not in f.starts:
            inexact.add(slot)
        known = f.slots[slot]
        f.slots[slot] = into if known in ("", into) else None
    elif (match := MEMORY.match(line)) and "!annotation" not in line:
        for pointer in (
            match["to"],
            match["from"].split()[-1],
        ):  # copies of structs are not followed
            _forget_chosen(f, pointer)
            root = f.into.get(pointer)
            for slot in f.slots_of(root) if root else ():
                f.slots[slot] = None


def _forget_chosen(f: Function, pointer: str) -> None:
    """Pointers in one of several structs change, through a choice between them."""
    for chosen_one in f.choices.get(f.into.get(pointer, ""), ()):
        _forget_chosen(f, chosen_one)
        for slot in f.slots_of(f.into.get(chosen_one, "")):
            f.slots[slot] = None


def _first_field(f: Function, kind: str, pointer: str) -> None:
    """The start of a struct, where a pointer is, is its first field."""
    root = f.into.get(pointer, "")
    if kind == "ptr" and pointer in f.starts and f.types.get(root, "").startswith("%"):
        f.fields[pointer] = f"{root} field 0"


def _copy(f: Function, body: list[str]) -> None:
    """Variables that hold copies of others, whole or in part, are watched, too."""
    while True:
        before = len(f.filled)
        values: dict[str, str] = {}
        for line in body:
            if "!annotation" in line or "!nosanitize" in line:
                continue
            if match := LOAD.match(line):
                source = f.into.get(match["from"])
                if source in f.filled and source is not None:
                    values[match["name"]] = source
            elif match := STORE.match(line):
                _copied(f, values.get(match["value"]), f.into.get(match["to"]))
            elif match := MEMORY.match(line):
                source = f.into.get(match["from"].split()[-1])
                if match["what"] != "memset" and source in f.filled:
                    _copied(f, source, f.into.get(match["to"]))
            elif match := _PASSES_ON.match(line):
                operands = [values[n] for n in NAMES.findall(line) if n in values]
                if operands:
                    values[match["name"]] = operands[0]
        if len(f.filled) == before:
            return


def _copied(f: Function, source: str | None, to: str | None) -> None:
    if source is not None and to is not None and to not in f.filled and to in f.types:
        f.filled.add(to)
        f.copies[to] = f.copies.get(source, source)


def _lose(f: Function, line: str) -> None:
    """Uses of a pointer that this does not follow."""
    if (match := CHOICE.match(line)) and match["name"] in f.choices:
        return
    if any(word in line for word in _HARMLESS) or ALLOCA.match(line):
        return
    free: set[str] = set()
    if match := GEP.match(line):
        free = {match["base"]}
        index = match["rest"].split(f"ptr {match['base']}", 1)[1]
        free -= set(NAMES.findall(index))
    elif match := LOAD.match(line):
        free = {match["from"]}
        if twin_type(match["type"]) is None:
            free = set()
    elif match := STORE.match(line):
        root = f.into.get(match["to"])
        if "!annotation" in line and root:
            f.filled.add(root)
        value = match["value"]
        if twin_type(match["type"]) is not None:
            free = {match["to"]}
        slot = f.slots.get(f.slot(match["to"]))
        if match["type"] == "ptr" and slot and value != match["to"]:
            free.add(value)
        elif value in f.into:
            free.discard(value)
    elif match := MEMORY.match(line):
        source = match["from"].split()[-1]
        free = {match["to"], source}
        if "!annotation" in line and (root := f.into.get(match["to"])):
            f.filled.add(root)
    for name in {*NAMES.findall(line), *re.findall(r"@[\w.$]+", line)} - free:
        root = f.into.get(name)
        if root is not None and not line.startswith(f"  {name} = "):
            f.lost.add(root)


def twin_type(kind: str) -> str | None:
    """The integers that say which bits of a value of type `kind` were written."""
    if match := re.fullmatch(r"<(\d+) x (\w+)>", kind):
        element = twin_type(match[2])
        return f"<{match[1]} x {element}>" if element else None
    if kind in _BITS:
        return f"i{_BITS[kind]}"
    return kind if re.fullmatch(r"i(8|16|32|64)", kind) else None
