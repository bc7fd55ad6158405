"""One message of the static check."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """What is wrong at a place of a Metal text. `line` and `column` are 1-based.

    An error is what Metal refuses or leaves undefined; a warning is what only newer versions of
    the language, or some compilers, accept.
    """

    line: int
    column: int
    severity: Literal["error", "warning"]
    rule: str
    message: str

    def format(self, file: str) -> str:
        """As compilers print it."""
        return f"{file}:{self.line}:{self.column}: {self.severity}: {self.message} [{self.rule}]"
