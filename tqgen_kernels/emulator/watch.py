"""What is written about one function's variables while its lines are copied."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from tqgen_kernels.emulator.called import Called
from tqgen_kernels.emulator.pointers import Function


class Read(NamedTuple):
    """A value that came out of a variable; it is checked where it is used, not copied."""

    twin: str
    type: str  # of the twin
    variable: str
    debug: str  # where it was read


class Checks:
    """One function's lines, with its checks."""

    def __init__(self, f: Function, tables: dict[str, str], used: Called) -> None:
        self.f, self.tables, self.used = f, tables, used
        self.out: list[str] = []
        self.count = 0
        self.offsets: dict[str, str] = {}  # pointer -> its offset into its variable
        self.read: dict[str, Read] = {}  # what came out of variables
        self.sizes: dict[str, str] = {}  # choice between variables -> bytes of the one
        self.names: dict[str, str] = {}  # and its name

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
        return self.emit(f"getelementptr i8, ptr {twin_of(root)}, i64 {self.offset(pointer)}")

    def offset(self, pointer: str) -> str:
        return self.offsets.get(pointer, "0")

    def within(self, pointer: str, size: str, write: bool, debug: str) -> None:
        """Checks an access, unless it is at the start of the variable."""
        root = self.f.into.get(pointer)
        if root is None or self.offset(pointer) == "0":
            return
        kind = self.tables.get(root) or self.f.types[root]
        extent = self.sizes.get(root) or size_of(kind)
        element = kind
        if kind.startswith("<{"):  # an array whose end is zeros
            element = kind[2:].split(",")[0].strip()
        while match := re.fullmatch(r"\[\d+ x (.*)\]", element):
            element = match[1]
        self.used.bounds = True
        what = int(root in self.tables) + 2 * write
        self.out.append(
            f"  call void @tq_check_within(i64 {self.offset(pointer)}, i64 {size}, "
            f"i64 {extent}, i64 {size_of(element)}, i32 {what}, "
            f"ptr {self.label(root)}){debug}"
        )

    def used_by(self, names: Iterable[str]) -> None:
        for name in dict.fromkeys(names):
            if name in self.read:
                self.written(*self.read[name])

    def stored(self, read: Read, pointer: str) -> None:
        """A copy in memory that threads share is as unwritten as its origin."""
        if read.type[0] == "<":
            self.written(*read)
            return
        self.used.stored = True
        wide = read.twin
        if read.type != "i64":
            wide = self.emit(f"zext {read.type} {read.twin} to i64")
        variable = self.f.copies.get(read.variable, read.variable)
        self.out.append(
            f"  call void @tq_check_stored(i64 {wide}, ptr {pointer}, "
            f"i64 {int(read.type[1:]) // 8}, ptr {self.label(variable)}){read.debug}"
        )

    def written(self, value: str, kind: str, variable: str, debug: str) -> None:
        self.used.whole.add(kind)
        variable = self.f.copies.get(variable, variable)
        name = re.sub(r"\W+", "_", kind).strip("_")
        self.out.append(
            f"  call void @tq_check_written_{name}({kind} {value}, "
            f"ptr {self.label(variable)}){debug}"
        )

    def label(self, variable: str) -> str:
        """Pointer to the author's name of a variable."""
        return self.names.get(variable) or self.used.name(variable)


def twin_of(variable: str, suffix: str = "") -> str:
    name = variable.replace('%"', "%").replace('"', "").removeprefix("%")
    return f'%"tq.twin.{name}{suffix}"'


def size_of(kind: str) -> str:
    return f"ptrtoint (ptr getelementptr ({kind}, ptr null, i64 1) to i64)"
