"""A made-up device, and records of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import AttendProblem, Problem
from tqgen_kernels.codegen.space import Candidate
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.database.folder import Database
from tqgen_kernels.tuning.record.environment import Environment
from tqgen_kernels.tuning.record.record import Record
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant, Prepared, Wanted, road, road_name
from tqgen_kernels.tuning.search.tuner import Task, tune

TEMPLATE = "ab" * 32
PROBLEM = AttendProblem(128, 128, 3, 3, gqa=4, context=4096)
ENVIRONMENT = Environment(
    backend="cuda",
    architecture="sm_90",
    device="NVIDIA H100 80GB HBM3",
    gpu_cores=132,
    os="Linux 6.1",
    language="9.0",
    mlx="0.32.4",
    python="3.12.1",
    tqgen="0.1.0",
)


def config(number: int) -> Config:
    return Config.of(lanes=number)


def task(count: int = 6, problem: Problem = PROBLEM, roads: tuple[str, ...] = ("mlx",)) -> Task:
    """`count` candidates lanes=0.. with the default 0, and one more that is removed."""
    space = [Candidate(config(i)) for i in range(count)]
    return Task(
        problem=problem,
        space=(*space, Candidate(config(-1), "too few lanes")),
        default=config(0),
        template_sha256=TEMPLATE,
        roads=tuple(road(name) for name in roads),
    )


@dataclass
class FakeRunner:
    """seconds(config, number of the launch call) a launch; `clock` moves by what is launched."""

    seconds: Callable[[Config, int], float]
    errors: dict[Config, InvalidVariant] = field(default_factory=dict)
    verifications: dict[Config, Verification] = field(default_factory=dict)
    interrupt_at: int | None = None
    now: float = 0.0
    calls: list[tuple[Config, int]] = field(default_factory=list)
    prepared: list[Config] = field(default_factory=list)
    text: str = "v1"
    prepare_seconds: float = 0.0
    proof_seconds: float | None = None  # of one candidate; None: nothing is proven ahead
    proven: list[Wanted] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def source_sha256(self, problem: Problem, config: Config) -> str:
        if road_name(config) is not None:
            return ""
        return hashlib.sha256(f"{self.text} {config}".encode()).hexdigest()

    def prove(
        self,
        wanted: Sequence[Wanted],
        budget: Budget,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if self.proof_seconds is None:
            return
        for done, one in enumerate(wanted):
            if budget.spent:
                return
            self.now += self.proof_seconds
            self.proven.append(one)
            progress(done + 1, len(wanted))

    def is_proven(self, problem: Problem, config: Config) -> bool:
        return self.proof_seconds is None or (problem, config) in self.proven

    def prepare(self, problem: Problem, config: Config) -> Prepared:
        self.prepared.append(config)
        self.now += self.prepare_seconds
        if config in self.errors and self.errors[config].kind != "timeout":
            raise self.errors[config]
        found = self.verifications.get(config, Verification(1e-6, 1e-5, "relative"))
        source = self.source_sha256(problem, config)
        return Prepared(source, found, 10**7, lambda n: self._launch(config, n))

    def _launch(self, config: Config, n: int) -> float:
        if config in self.errors:
            raise self.errors[config]
        if self.interrupt_at is not None and len(self.calls) >= self.interrupt_at:
            raise KeyboardInterrupt
        self.calls.append((config, n))
        took = n * self.seconds(config, len(self.calls))
        self.now += took
        return took


def steady(times: dict[int, float], road_time: float = 1e-2) -> Callable[[Config, int], float]:
    """The same time always, by number of the config; 1 ms for what is not named."""

    def seconds(config: Config, call: int) -> float:
        if road_name(config) is not None:
            return road_time
        return times.get(int(config["lanes"]), 1e-3)

    return seconds


def tuned(
    times: dict[int, float] | None = None,
    *,
    problem: Problem = PROBLEM,
    environment: Environment = ENVIRONMENT,
    database: Database | None = None,
    count: int = 6,
    road_time: float = 1e-2,
) -> Record:
    """A record of the made-up device; config 3 is the fastest unless said otherwise."""
    runner = FakeRunner(steady({3: 5e-4} if times is None else times, road_time))
    return tune(task(count, problem), runner, environment, database=database, clock=runner.clock)


def accept(problem: object, record: object, result: object) -> None:
    """A `validate` that has no objection."""
