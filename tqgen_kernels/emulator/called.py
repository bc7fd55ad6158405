"""The LLVM functions that the checks of variables call."""

import re
from collections.abc import Iterable


class Called:
    """Names and checks that a module needs."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.whole: set[str] = set()
        self.bounds = False
        self.stored = False

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
        if self.stored:
            yield _STORE_CHECK
        yield "declare void @tq_unwritten_stored(ptr, i64, ptr)"
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


_STORE_CHECK = """\
define internal void @tq_check_stored(i64 %written, ptr %to, i64 %bytes, ptr %name) alwaysinline {
  %bad = icmp eq i64 %written, 0
  br i1 %bad, label %report, label %fine
report:
  call void @tq_unwritten_stored(ptr %to, i64 %bytes, ptr %name)
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
