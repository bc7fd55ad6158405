"""What the tuner asks of whoever compiles, verifies and launches a candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.search.budget import Budget

Wanted = tuple[Problem, Config]
Invalidity = Literal["constraints", "compile", "launch", "timeout", "correctness"]
INVALIDITIES: tuple[Invalidity, ...] = get_args(Invalidity)


class InvalidVariant(RuntimeError):
    """A config that cannot be used, and at which step that was found."""

    def __init__(self, kind: Invalidity, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind: Invalidity = kind
        self.detail = detail


@dataclass(frozen=True)
class Prepared:
    """A candidate that compiled, was launched once and was compared with the reference.

    source_sha256: Variant.sha256; "" for a road, which has no text of ours.
    bytes_moved: the fewest bytes that one launch must move through device memory.
    launch(n): seconds that n launches took together. It may raise InvalidVariant.
    """

    source_sha256: str
    verification: Verification
    bytes_moved: int
    launch: Callable[[int], float]


class Runner(Protocol):
    """The device: real (autotuning/runner.py), replayed (replay.py), or made up in a test."""

    def source_sha256(self, problem: Problem, config: Config) -> str:
        """Renders only. "" for a road. Raises InvalidVariant."""
        ...

    def prove(
        self,
        wanted: Sequence[Wanted],
        budget: Budget,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Compiles and verifies ahead, as many at once as it can, the first of `wanted` first,
        until the budget is spent. progress gets how many are done, and of how many.

        Where nothing is gained by it, it does nothing.
        """
        ...

    def is_proven(self, problem: Problem, config: Config) -> bool:
        """Whether `prepare` is as quick as it gets."""
        ...

    def prepare(self, problem: Problem, config: Config) -> Prepared:
        """Renders, compiles, launches once and verifies. Raises InvalidVariant."""
        ...


def road(name: str) -> Config:
    """A way to do the work without a kernel of ours ("mlx", "sdpa"): it races as a candidate."""
    return Config.of(road=name)


def road_name(config: Config) -> str | None:
    """The road that a config names; None for the config of a kernel."""
    names = dict(config.values)
    return str(names["road"]) if tuple(names) == ("road",) else None
