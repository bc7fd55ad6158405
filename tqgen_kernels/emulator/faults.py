"""What the emulator finds wrong with a kernel, and the errors that carry it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `line` is the author's own (1-based); fields that do not apply are None.

    `soft` findings are raised only in strict mode: today's GPUs give the result that was meant.
    """

    kind: str
    kernel: str
    line: int | None
    thread: tuple[int, int, int] | None
    address_space: str | None
    buffer: str | None
    index: int | None
    message: str
    soft: bool
    part: Literal["source", "header"] = "source"  # what `line` counts in


class MetalCompileError(RuntimeError):
    """The Metal text does not compile; the message has the author's own line numbers."""


class MetalFault(RuntimeError):
    """A kernel did something wrong while it ran; `findings` says what and where."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("\n".join(finding.message for finding in findings))


class TooManyThreads(MetalFault, ValueError):
    """A threadgroup of more than 1024 threads; MLX reports it as a ValueError."""


class MetalWarning(UserWarning):
    """A soft finding, where it does not raise."""
