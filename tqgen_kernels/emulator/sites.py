"""Checks an access where it is made, in the loop over the threads of a threadgroup.

Works on LLVM text that has the calls of clang's thread sanitizer. What each place in the text has
read or written last tells what it will touch next: inside that range nothing has to be looked up.
`runtime/runs.cpp` sets the ranges; only what leaves them calls it.
"""

import re

from tqgen_kernels.emulator.looping import LOOP

_CALL = re.compile(
    r"call void @__tsan_(?P<what>read|write)(?P<bytes>[1248])\(ptr (?P<to>[^()]*?)\)"
)
_SITE = "{ i64, i64, ptr, i32, i32 }"  # `tq_site` of runtime.h


def with_sites(ir: str) -> str:
    """`ir` whose loop has a site for each plain access."""
    loop = LOOP.search(ir)
    if loop is None:
        return ir
    used = set[tuple[str, str]]()
    sites = 0

    def one(match: re.Match[str]) -> str:
        nonlocal sites
        used.add((match["what"], match["bytes"]))
        sites += 1
        what = f"@tq_quick_{match['what']}{match['bytes']}"
        return f"call void {what}(ptr {match['to']}, ptr @tq_site.{sites})"

    body = _CALL.sub(one, loop[0])
    if not used:
        return ir
    globals_ = [f"@tq_site.{i + 1} = internal global {_SITE} zeroinitializer" for i in range(sites)]
    functions = [
        (_READ if what == "read" else _WRITE).replace("BYTES", n) for what, n in sorted(used)
    ]
    declared = [
        f"declare void @tq_{what}_at(ptr, ptr, i32)" for what in sorted({w for w, _ in used})
    ]
    if "@tq_thread =" not in ir:
        declared.append("@tq_thread = external global i32, align 4")
    text = [ir[: loop.start()] + body + ir[loop.end() :], *globals_, *declared, *functions, ""]
    return "\n".join(text)


_READ = """define internal void @tq_quick_readBYTES(ptr %p, ptr %site) alwaysinline nounwind {
  %begin = load i64, ptr %site, align 8
  %to_bytes = getelementptr i8, ptr %site, i64 8
  %bytes = load i64, ptr %to_bytes, align 8
  %at = ptrtoint ptr %p to i64
  %offset = sub i64 %at, %begin
  %inside = icmp ult i64 %offset, %bytes
  br i1 %inside, label %fine, label %outside, !prof !{!"branch_weights", i32 1000, i32 1}
outside:
  call void @tq_read_at(ptr %site, ptr %p, i32 BYTES)
  br label %fine
fine:
  ret void
}"""

_WRITE = """define internal void @tq_quick_writeBYTES(ptr %p, ptr %site) alwaysinline nounwind {
  %next = load i64, ptr %site, align 8
  %to_end = getelementptr i8, ptr %site, i64 8
  %end = load i64, ptr %to_end, align 8
  %to_thread = getelementptr i8, ptr %site, i64 24
  %expected = load i32, ptr %to_thread, align 4
  %thread = load i32, ptr @tq_thread, align 4
  %at = ptrtoint ptr %p to i64
  %follows = icmp eq i64 %at, %next
  %room = icmp ult i64 %at, %end
  %turn = icmp eq i32 %thread, %expected
  %both = and i1 %follows, %room
  %all = and i1 %both, %turn
  br i1 %all, label %inside, label %outside, !prof !{!"branch_weights", i32 1000, i32 1}
inside:
  %moved = add i64 %at, BYTES
  store i64 %moved, ptr %site, align 8
  %after = add i32 %thread, 1
  store i32 %after, ptr %to_thread, align 4
  ret void
outside:
  call void @tq_write_at(ptr %site, ptr %p, i32 BYTES)
  ret void
}"""
