"""How kernels run: what is checked, in which order threads go, when to give up."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Literal

from tqgen_kernels.emulator.faults import Finding

CHECKS = ("full", "fast")
ORDERS = ("ascending", "descending", "random")


@dataclass(frozen=True, slots=True)
class Options:
    """`checks`: "full" reports every kind of fault, "fast" those that cost nothing.
    `order`: of threads and threadgroups. `strict`: raise for soft findings, too.
    `timeout`: seconds for one launch, None for no limit. `compiler`: a path, else the first found.
    `findings`: everything found while these options held, soft ones included.
    """

    checks: Literal["full", "fast"] = "full"
    order: Literal["ascending", "descending", "random"] = "ascending"
    seed: int = 0
    strict: bool = False
    timeout: float | None = 60.0
    compiler: str | None = None
    findings: list[Finding] = field(default_factory=list, compare=False)


_current: ContextVar[Options] = ContextVar("emulator_options", default=Options())  # noqa: B039


def current() -> Options:
    return _current.get()


@contextmanager
def options(
    *,
    checks: Literal["full", "fast"] | None = None,
    order: Literal["ascending", "descending", "random"] | None = None,
    seed: int | None = None,
    strict: bool | None = None,
    timeout: float | None = None,
    compiler: str | None = None,
) -> Iterator[Options]:
    """Sets options for the kernels that run inside the block; what is not given stays.

    Raises:
        ValueError: for an unknown value; the message lists the known ones.
    """
    given = {
        "checks": checks,
        "order": order,
        "seed": seed,
        "strict": strict,
        "timeout": timeout,
        "compiler": compiler,
    }
    for name, value, allowed in (("checks", checks, CHECKS), ("order", order, ORDERS)):
        if value is not None and value not in allowed:
            raise ValueError(f"{name}={value!r}: known are {', '.join(map(repr, allowed))}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: give seconds above 0")
    changes = {name: value for name, value in given.items() if value is not None}
    changed = replace(current(), findings=[], **changes)  # type: ignore[arg-type]
    token = _current.set(changed)
    try:
        yield changed
    finally:
        _current.reset(token)
