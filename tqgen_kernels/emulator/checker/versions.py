"""What a text says to one version of Metal: `#if __METAL_VERSION__ >= 320` and its like."""

import operator
import re

_CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)$")
_VERSION = re.compile(r"\(?\s*__METAL_VERSION__\s*(>=|<=|==|!=|>|<)\s*(\d+)\s*\)?")
_COMPARE = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def for_version(text: str, msl: tuple[int, int]) -> str:
    """`text` with lines blank that other versions of Metal see; lines keep their numbers.

    Only conditions that compare __METAL_VERSION__ with a number, and nothing else, are decided;
    all branches of the others stay.
    """
    version = msl[0] * 100 + msl[1] * 10
    # Of each open #if: whether the current branch counts, and whether an earlier one was taken.
    open_: list[tuple[bool, bool]] = []
    kept = []
    for line in text.split("\n"):
        match = _CONDITION.match(line)
        if match:
            _advance(open_, match[1], match[2].split("//")[0].strip(), version)
        active = all(counts for counts, _ in open_)
        kept.append(line if match or active else "")
    return "\n".join(kept)


def _advance(open_: list[tuple[bool, bool]], word: str, condition: str, version: int) -> None:
    decided = _VERSION.fullmatch(condition)
    holds = decided is None or _COMPARE[decided[1]](version, int(decided[2]))
    if word.startswith("if"):
        open_.append((holds, decided is not None and holds))
    elif not open_:
        return
    elif word == "endif":
        open_.pop()
    else:
        taken = open_[-1][1]
        if word == "elif":
            open_[-1] = (holds and not taken, taken or (decided is not None and holds))
        else:
            open_[-1] = (not taken, True)
