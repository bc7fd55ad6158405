"""One problem's candidates, timed: what has been measured so far, and the rules of measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from msgspec.structs import replace

from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.variant import Config
from tqgen_kernels.tuning.record.policy import Policy
from tqgen_kernels.tuning.record.record import Result
from tqgen_kernels.tuning.search import measure
from tqgen_kernels.tuning.search.budget import Budget
from tqgen_kernels.tuning.search.roofline import achieved_bandwidth
from tqgen_kernels.tuning.search.runner import InvalidVariant, Prepared, Runner, road_name


@dataclass
class Race:
    """`results` grows by every trial.

    order: the candidates in declared order with their index, the default first.
    medians: of phase 1, seconds per launch, of what is correct and was timed.
    peak: GB/s, or None. after: called with the config after every trial and final round.
    """

    problem: Problem
    order: dict[Config, int]
    runner: Runner
    policy: Policy
    peak: float | None
    budget: Budget
    after: Callable[[Config], None]
    results: dict[Config, Result]
    medians: dict[Config, float] = field(default_factory=dict)
    _prepared: dict[Config, Prepared] = field(default_factory=dict)
    _launches: dict[Config, int] = field(default_factory=dict)
    _longest: dict[bool, float] = field(default_factory=dict)  # preparing a kernel, by is_proven

    def __post_init__(self) -> None:
        for config, result in self.results.items():
            self._note(config, result)

    def trial(self, config: Config, samples: int, *, must: bool = False) -> float | None:
        """Measures `config` until it has `samples` samples. Its median, None if it is invalid.

        Raises OutOfTime before it starts when the budget is spent, or would be before such a
        candidate is prepared, unless it `must` be tried; one that is under way when the budget
        ends stops after a sample.
        """
        known = self.results.get(config)
        if known is None or (known.outcome == "correct" and not self._enough(known, samples)):
            if not must:
                self.budget.check(self._time_to_prepare(config))
            self._attempt(config, samples)
            self.after(config)
        return self.medians.get(config)

    def _time_to_prepare(self, config: Config) -> float:
        """Seconds, as the slowest one so far took."""
        if config in self._prepared or road_name(config) is not None:
            return 0.0
        return self._longest.get(self.runner.is_proven(self.problem, config), 0.0)

    def final(self, rounds: int) -> None:
        """Phase 2: the finalists interleaved. A round counts only when it is whole, and rounds of
        an earlier run only when nobody new is among the finalists."""
        finalists = self.finalists()
        whole = bool(finalists) and self._rounds(finalists) >= rounds
        self._demote(set(self.results) - set(finalists if whole else ()))
        while finalists and self._rounds(finalists) < rounds:
            self.budget.check()
            runs = {}
            for config in finalists:
                self._attempt(config, 1)
                if self.results[config].outcome == "correct":
                    runs[config] = (self._prepared[config].launch, self._launches[config])
            try:
                round_samples = measure.there_and_back(runs)
            except measure.Failed as failed:
                self._invalidate(failed.key, failed.error)
                finalists = self.finalists()
                continue
            for config, pair in round_samples.items():
                result = self.results[config]
                self._keep(config, replace(result, final_samples=(*result.final_samples, *pair)))
            finalists = [c for c in finalists if c in runs]
            self.after(finalists[0] if finalists else next(iter(self.order)))

    def finalists(self) -> list[Config]:
        """In declared order: kernels close to the fastest of phase 1, the fastest few of them and
        the earliest-declared few; the default; the roads that are not hopeless."""
        kernels = self._kernels()
        limit = min(kernels.values(), default=0.0) * (1 + self.policy.finalist_margin)
        close = [c for c in self.order if kernels.get(c, limit + 1) <= limit]
        fastest = sorted(close, key=kernels.__getitem__)[: self.policy.finalists]
        chosen = {*fastest, *close[: self.policy.finalists]}
        chosen |= {c for c in self.medians if self._always(c)}
        return sorted(chosen, key=self.order.__getitem__)

    def finals(self) -> dict[Config, float]:
        """The medians of phase 2 so far."""
        timed = {c: self.results[c].final_samples for c in self.medians}
        return {c: median(samples) for c, samples in timed.items() if samples}

    def _always(self, config: Config) -> bool:
        result = self.results[config]
        return self.order[config] == 0 or (result.road is not None and not self._hopeless(result))

    def _enough(self, result: Result, samples: int) -> bool:
        return len(result.samples) >= samples or (bool(result.samples) and self._hopeless(result))

    def _hopeless(self, result: Result) -> bool:
        fastest = min(self._kernels().values(), default=float("inf"))
        return min(result.samples) > self.policy.give_up * fastest

    def _kernels(self) -> dict[Config, float]:
        """The medians of phase 1 of what is no road."""
        return {c: m for c, m in self.medians.items() if self.results[c].road is None}

    def _rounds(self, finalists: Sequence[Config]) -> int:
        return min(len(self.results[c].final_samples) // 2 for c in finalists)

    def _demote(self, configs: set[Config]) -> None:
        """Their samples stay, as those of phase 1."""
        for config in configs:
            result = self.results[config]
            if result.final_samples:
                samples = (*result.samples, *result.final_samples)
                self._keep(config, replace(result, samples=samples, final_samples=()))

    def _attempt(self, config: Config, samples: int) -> None:
        try:
            self._sample(config, self._prepare(config), samples)
        except InvalidVariant as error:
            self._invalidate(config, error)
        except RuntimeError as error:  # whatever a compiler or a device says
            self._invalidate(config, InvalidVariant("launch", str(error)))

    def _invalidate(self, config: Config, error: InvalidVariant) -> None:
        self._prepared.pop(config, None)
        self.medians.pop(config, None)
        failed = invalid(config, self.order[config], error.kind, error.detail)
        try:
            text = self.runner.source_sha256(self.problem, config)
        except InvalidVariant:
            text = ""
        self.results[config] = replace(failed, source_sha256=text)

    def _prepare(self, config: Config) -> Prepared:
        """Compiled and verified. What was measured of another text is forgotten."""
        if config in self._prepared:
            return self._prepared[config]
        start, proven = self.budget.clock(), self.runner.is_proven(self.problem, config)
        prepared = self.runner.prepare(self.problem, config)
        if road_name(config) is None:
            took = self.budget.clock() - start
            self._longest[proven] = max(took, self._longest.get(proven, 0.0))
        found = prepared.verification
        if not found.passed:
            detail = f"error {found.error:.3g}, allowed {found.tolerance:.3g} ({found.measure})"
            raise InvalidVariant("correctness", detail)
        fresh = Result(
            config=dict(config.values),
            index=self.order[config],
            outcome="correct",
            source_sha256=prepared.source_sha256,
            error=found.error,
            tolerance=found.tolerance,
            measure=_storable(found.measure),
            bytes_moved=prepared.bytes_moved,
        )
        known = self.results.get(config)
        if known is not None and known.source_sha256 == prepared.source_sha256:
            fresh = replace(fresh, samples=known.samples, final_samples=known.final_samples)
        self._prepared[config] = prepared
        self._note(config, fresh)
        return prepared

    def _calibrate(self, config: Config, prepared: Prepared) -> float:
        if config in self._launches:
            return 0.0
        self._launches[config], once = measure.calibrate(prepared.launch, self.policy)
        return once

    def _sample(self, config: Config, prepared: Prepared, samples: int) -> None:
        once = self._calibrate(config, prepared)
        result = self.results[config]
        if once and not result.samples:
            result = replace(result, samples=(once,))
        while not self._enough(result, samples):
            if result.samples and self.budget.spent:
                break
            seconds = measure.checked(prepared.launch, self._launches[config])
            result = replace(result, samples=(*result.samples, seconds))
        self._keep(config, result)

    def _keep(self, config: Config, result: Result) -> None:
        """The result with the bandwidth that its median gives."""
        seconds = median(result.timed)
        speed = achieved_bandwidth(result.bytes_moved, seconds) if result.bytes_moved else None
        share = speed / self.peak if speed is not None and self.peak else None
        self._note(config, replace(result, bandwidth=_digits(speed), roofline=_digits(share)))

    def _note(self, config: Config, result: Result) -> None:
        self.results[config] = result
        self.medians.pop(config, None)
        if result.outcome == "correct" and result.samples:
            self.medians[config] = median(result.samples)


def invalid(config: Config, index: int, kind: str, detail: str) -> Result:
    """The result of a candidate that cannot be used."""
    return Result(
        config=dict(config.values),
        index=index,
        outcome=kind,  # type: ignore[arg-type]
        detail=_storable(detail),
    )


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _storable(text: str) -> str:
    """Not too long, and without what UTF-8 cannot say: a compiler may have said anything."""
    return text.encode(errors="replace").decode()[:4096]
