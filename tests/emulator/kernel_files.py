"""Reads the kernels in `kernels/`: each begins with `//: NAME KIND` and what is not the default.

What a launch and its finding look like is `Faulty`. A helper stands before the line `//: kernel`.
"""

from pathlib import Path

from tests.emulator.faulty import Faulty

HEAD = (
    "uint i = thread_position_in_grid.x, t = thread_index_in_threadgroup, "
    "lane = thread_index_in_simdgroup, group = threadgroup_position_in_grid.x;\n"
)
_FOLDER = Path(__file__).parent / "kernels"


def kernels(name: str) -> list[Faulty]:
    """The kernels of one file; those of kind `correct` have no fault."""
    cases: list[Faulty] = []
    for section in (_FOLDER / f"{name}.metal").read_text().split("\n//: ")[1:]:
        if section.startswith("kernel\n"):
            helper, body = cases.pop(), section.removeprefix("kernel\n")
            header = helper.source.removeprefix(HEAD)
            given = {n: getattr(helper, n) for n in Faulty.__dataclass_fields__}
            cases.append(Faulty(**{**given, "header": header, "source": HEAD + body}))
            continue
        first, body = section.split("\n", 1)
        title, kind, *options = first.split()
        start = None if kind == "correct" else 0  # of the outputs
        chosen = {"init": start, **dict(map(_option, options))}
        cases.append(Faulty(title, kind, HEAD + body, **chosen))  # type: ignore[arg-type]
    return cases


def _option(text: str) -> tuple[str, object]:
    name, value = text.split("=")
    words = {"True": True, "None": None}
    if value in words:
        return name, words[value]
    try:
        return name, int(value)
    except ValueError:
        return name, value
