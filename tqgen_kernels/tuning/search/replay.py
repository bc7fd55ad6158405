"""A runner that plays a stored record back: strategies are tried with no GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle

from tqgen_kernels.codegen.family import Verification
from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.record import Record, Result
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.runner import InvalidVariant, Prepared, Wanted


class ReplayRunner:
    """Every sample of `record` again, in order and round and round; `launches` counts them."""

    def __init__(self, record: Record) -> None:
        self._results = {r.key: r for r in record.results}
        self.launches = 0

    def source_sha256(self, problem: Problem, config: Config) -> str:
        return self._result(config).source_sha256

    def prove(
        self,
        wanted: Sequence[Wanted],
        budget: Budget,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Nothing is compiled."""

    def is_proven(self, problem: Problem, config: Config) -> bool:
        return True

    def prepare(self, problem: Problem, config: Config) -> Prepared:
        result = self._result(config)
        if result.outcome != "correct":
            raise InvalidVariant(result.outcome, result.detail)
        samples = cycle((*result.samples, *result.final_samples))

        def launch(n: int) -> float:
            self.launches += n
            return n * next(samples)

        assert result.error is not None  # a sound record's correct results have both
        assert result.tolerance is not None
        verification = Verification(result.error, result.tolerance, result.measure)
        return Prepared(result.source_sha256, verification, result.bytes_moved, launch)

    def _result(self, config: Config) -> Result:
        if config not in self._results:
            raise InvalidVariant("constraints", "the record does not know this config")
        return self._results[config]
