"""The tuner's runner on this machine's device."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import mlx.core as mx
import numpy as np

from tqgen_kernels.autotuning import roads, stock
from tqgen_kernels.autotuning.chain import Inputs, Step, launcher
from tqgen_kernels.backends import portable
from tqgen_kernels.backends.compiled import Compiled, example_arrays
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.families.attend import layouts
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import (
    EXACT,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    Problem,
    family_of,
)
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.execution import registry
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.tuning.record.decide import BASELINES
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant, Prepared, Wanted, road_name
from tqgen_kernels.tuning.search.workers import Job, NoWorkers, Verdict, Workers

ROTATED_BYTES = 192 * 2**20  # of inputs, so that no launch finds its own in the last-level cache
MAX_COPIES = 32
EMULATED_TOKENS = 256  # more would take the CPU minutes
MOST_WORKERS = 14
WORKER_MEMORY = 4 * 2**30  # of the device's, for each worker: a context of its own takes a part
PROOF_SECONDS = 30.0  # to compile a variant, launch it once and verify it; then it hangs
EMULATED_PROOF_SECONDS = 180.0


class TuningNotice(UserWarning):
    """Tuning goes on in another way than it should."""


def default_workers(backend: str) -> int:
    """Processes that prove candidates. CUDA: as many as compile at once. Metal: one, since it
    compiles fast, but a kernel that hangs still must not end the search. The emulator stops a
    launch that takes too long by itself: none."""
    if backend == "metal":
        return 1
    if backend != "cuda":
        return 0
    memory = mx.device_info(mx.gpu).get("total_memory", 0)
    room = int(memory) // WORKER_MEMORY
    return max(1, min(MOST_WORKERS, (os.cpu_count() or 1) - 1, room))


def _combine_of(problem: AttendProblem) -> tuple[CombineProblem, Config]:
    heads = problem.kv_heads * problem.gqa
    merge = CombineProblem(problem.value_dim, problem.dtype, heads=heads, batch=problem.batch)
    return merge, FAMILIES["combine"].default(merge)


def companions_of(problem: Problem) -> Iterator[tuple[Problem, Config]]:
    """The kernels that are timed with a candidate of `problem`, or that its roads run: proven with
    the candidates, since one that the search compiled by itself would take its time."""
    if not isinstance(problem, AttendProblem):
        return
    yield _combine_of(problem)
    for side, layout in zip(("key", "value"), layouts(problem), strict=True):
        bits = getattr(problem, f"{side}_bits")
        if bits != EXACT:
            kind = side_kind(problem.codebook, "key" if side == "key" else "value")
            dim = getattr(problem, f"{side}_dim")
            unpack = DequantizeProblem(dim, bits, layout, problem.dtype, codebook=kind)  # type: ignore[arg-type]
            yield unpack, FAMILIES["dequantize"].default(unpack)


@dataclass
class DeviceRunner:
    """Compiles, verifies and times candidates through the registry; keeps one problem's inputs.

    workers: None for default_workers; 0 proves candidates in this process.
    """

    backend: str
    workers: int | None = None
    _inputs: dict[Any, tuple[Example, list[dict[str, mx.array]]]] = field(default_factory=dict)
    _verdicts: dict[str, Verdict] = field(default_factory=dict)  # by hash of the text
    _pool: Workers | None = None

    def __post_init__(self) -> None:
        count = default_workers(self.backend) if self.workers is None else self.workers
        if count and sys.executable:
            emulated = self.backend == "emulated"
            self._pool = Workers(
                (sys.executable, "-m", "tqgen_kernels.autotuning.worker", self.backend),
                count,
                EMULATED_PROOF_SECONDS if emulated else PROOF_SECONDS,
                {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    def close(self) -> None:
        """Ends the worker processes."""
        if self._pool is not None:
            self._pool.close()

    def source_sha256(self, problem: Problem, config: Config) -> str:
        if road_name(config) is not None:
            return ""
        try:
            return render(problem, config).sha256
        except ValueError as error:
            raise InvalidVariant("constraints", str(error)) from None

    def prove(
        self,
        wanted: Sequence[Wanted],
        budget: Budget,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Compiles and verifies in the worker processes, each text once; in no worker, nothing."""
        if self._pool is None:
            return
        jobs: dict[str, Job] = {}
        companions = {pair: None for problem, _ in wanted for pair in companions_of(problem)}
        for problem, config in (*companions, *wanted):
            if road_name(config) is None:
                key = self.source_sha256(problem, config)
                if key not in self._verdicts:
                    jobs.setdefault(key, Job(key, problem, config))
        if not jobs:
            return
        try:
            self._verdicts |= self._pool.prove(jobs.values(), budget, progress)
        except NoWorkers as error:
            self._pool = None
            warnings.warn(
                f"Candidates are compiled one by one, and one that hangs will not be stopped: "
                f"{error}",
                TuningNotice,
                stacklevel=2,
            )

    def is_proven(self, problem: Problem, config: Config) -> bool:
        if self._pool is None or road_name(config) is not None:
            return True
        return self.source_sha256(problem, config) in self._verdicts

    def prepare(self, problem: Problem, config: Config) -> Prepared:
        tokens = min(problem.context, EMULATED_TOKENS) if self.backend == "emulated" else None
        road = road_name(config)
        if road in BASELINES and isinstance(problem, AttendProblem):
            return self._baseline(road, problem, tokens)
        if road is not None:
            return self._road(road, problem, tokens)
        self.prove([(problem, config)], Budget())
        verdict = self._verdicts.get(self.source_sha256(problem, config))
        if isinstance(verdict, InvalidVariant):
            raise verdict
        compiled = registry.compile(problem, config, self.backend)
        verification = verdict or registry.verify(compiled)
        example, copies = self._inputs_of(problem, tokens, config)
        step = self._with_combine(problem, compiled, example.scalars)
        launch = launcher(step, copies, eager=self.backend == "emulated")
        moved = self._bytes(problem, tokens)
        return Prepared(compiled.variant.sha256, verification, moved, launch)

    def _with_combine(
        self, problem: Problem, compiled: Compiled, scalars: Mapping[str, int]
    ) -> Step:
        """attend is timed with the combine that it needs: splits are not free, and a road does the
        work of both."""
        if not isinstance(problem, AttendProblem):
            return lambda inputs: compiled(inputs, scalars)[0]
        combine = registry.compile(*_combine_of(problem), self.backend)
        value_signs = portable.signs(problem.value_dim, roads.SEED + 1)

        def step(inputs: Inputs) -> mx.array:
            partials, statistics = compiled(inputs, scalars)
            merged = {"partials": partials, "statistics": statistics, "signs": value_signs}
            return combine({**merged, "params": inputs["params"]}, {})[0]

        return step

    def _road(self, road: str, problem: Problem, tokens: int | None) -> Prepared:
        """The same inputs without a kernel of ours for this problem."""
        family = FAMILIES[family_of(problem)]
        small = family.example(problem, np.random.default_rng(0), registry.SMALL)
        outputs = roads.run(road, problem, example_arrays(small), small)
        verification = roads.verify(problem, small, outputs)
        example, copies = self._inputs_of(problem, tokens, family.default(problem))

        def step(inputs: Inputs) -> mx.array:
            return roads.run(road, problem, inputs, example)[0]

        return Prepared(
            "", verification, self._bytes(problem, tokens), launcher(step, copies, eager=False)
        )

    def _baseline(self, road: str, problem: AttendProblem, tokens: int | None) -> Prepared:
        """What the model would run with another cache, on as many tokens."""
        verification = stock.verify(road, problem, registry.SMALL)
        first = stock.inputs(road, problem, tokens or problem.context)
        size = stock.nbytes(first)
        copies = [first]
        for _ in range(1, self._how_many(size)):
            copies.append(stock.inputs(road, problem, tokens or problem.context))

        def step(inputs: Inputs) -> mx.array:
            return stock.attend(road, inputs, problem.key_dim**-0.5)

        return Prepared("", verification, size, launcher(step, copies, eager=False))

    def _how_many(self, nbytes: int) -> int:
        """Copies of the inputs, so that no launch finds its own in the last-level cache."""
        if self.backend == "emulated":
            return 1
        return min(MAX_COPIES, max(1, ceil(ROTATED_BYTES / nbytes)))

    def _bytes(self, problem: Problem, tokens: int | None) -> int:
        sized = problem if tokens is None else replace(problem, context=tokens)
        return FAMILIES[family_of(problem)].bytes_moved(sized)

    def _inputs_of(
        self, problem: Problem, tokens: int | None, config: Config
    ) -> tuple[Example, list[dict[str, mx.array]]]:
        """The problem's example, and its inputs several times over; only `params` depends on the
        candidate."""
        family = FAMILIES[family_of(problem)]
        key = (problem, tokens)
        if key not in self._inputs:
            self._inputs.clear()
            made = family.example(problem, np.random.default_rng(1), tokens, config)
            total = sum(a.nbytes for a in made.inputs.values())
            copies = [example_arrays(made) for _ in range(self._how_many(total))]
            self._inputs[key] = (made, copies)
        example, copies = self._inputs[key]
        if family.adapt is not None:
            example = family.adapt(problem, example, config)
        params = mx.array(example.inputs["params"])
        mx.eval(params)
        return example, [{**inputs, "params": params} for inputs in copies]
