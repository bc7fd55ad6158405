"""Kernels with one fault each. The comment `// FAULT` marks the line that must be reported."""

from dataclasses import dataclass, field

import mlx.core as mx


@dataclass(frozen=True)
class Faulty:
    """A kernel of one float input `x` and one float output `out`, and what is wrong with it."""

    name: str
    kind: str
    source: str
    header: str = ""
    threads: int = 64
    group: int = 64
    size: int = 64
    out_size: int = 64
    soft: bool = False
    fast: bool = False  # found without the detectors, too
    init: float | None = 0
    space: str | None = None
    buffer: str | None = None
    index: int | None = None
    order: str = "ascending"
    dtype: mx.Dtype = field(default=mx.float32)

    def line(self) -> int | None:
        return next(iter(self._marked("// FAULT")), None)

    def concerned(self) -> set[int | None]:
        """The line of the fault and those whose accesses meet there, marked `// ALSO`."""
        return {self.line(), *self._marked("// ALSO")}

    def _marked(self, mark: str) -> list[int]:
        return [n for n, text in enumerate(self.source.split("\n"), 1) if mark in text]
