"""The kernel problems of the demo: tuned on this device, and what runs for each and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx

from tqgen_kernels import backends
from tqgen_kernels.codegen.model import model_problems, shape_of
from tqgen_kernels.codegen.problem import Problem, family_of
from tqgen_kernels.quant.layered import LayeredScheme, distinct

from .gguf import Progress
from .weights import Say

if TYPE_CHECKING:
    from tqgen_kernels.quality.load import LoadedModel
    from tqgen_kernels.quant.scheme import Scheme
    from tqgen_kernels.tuning.record.record import Record
    from tqgen_kernels.tuning.search import tuner

GPU_SECONDS, EMULATED_SECONDS = 120.0, 45.0


@dataclass(frozen=True)
class Chosen:
    """kernel: family and layout. runs: the config or the road. origin, why: of the choice.
    tuning: how many candidates were tried, and what became of them."""

    kernel: str
    runs: str
    origin: str
    why: str
    tuning: str


def demo_problems(loaded: LoadedModel, scheme: Scheme | LayeredScheme) -> tuple[Problem, ...]:
    """The problems of a model under a scheme, at the context lengths that the demo reaches."""
    contexts = (1024,) if mx.default_device() == mx.cpu else (1024, 4096)
    dtype = str(loaded.dtype).rpartition(".")[2]
    shape = shape_of(loaded.config)
    found = [model_problems(shape, own, dtype, contexts=contexts) for own in distinct(scheme)]
    return tuple(dict.fromkeys(problem for problems in found for problem in problems))


def label(problem: Problem) -> str:
    """'encode key', 'attend', ...: enough to tell one model's problems apart."""
    return " ".join([family_of(problem), str(getattr(problem, "layout", ""))]).strip()


def tune(problems: Sequence[Problem], say: Say, progress: Progress) -> list[Record]:
    """Tune on this device, or check on the emulator where there is no GPU. What was tuned before is
    reused. Without a compiler for the emulator nothing is tuned, and `say` tells so."""
    from tqgen_kernels.autotuning import autotune, device_backend

    emulated = device_backend() == "emulated"
    if emulated and not backends.load("emulated").is_available():
        say(
            "kernels: no GPU, and no compiler to run them on the CPU "
            "(pip install 'tqgen-kernels[emulator]'): not tuned"
        )
        return []
    if emulated:
        say("kernels: no GPU here: the emulator runs and checks them, plain MLX does the work")

    def show(state: tuner.Progress) -> None:
        what = "compiling kernels" if state.problem is None else f"tuning {label(state.problem)}"
        progress(what, state.done, state.total)

    seconds = EMULATED_SECONDS if emulated else GPU_SECONDS
    return autotune(problems, seconds=seconds, quick=emulated, progress=show)


def chosen(problems: Sequence[Problem], records: Sequence[Record]) -> list[Chosen]:
    """What the registry chose for each problem; `records` are those of `tune`."""
    from tqgen_kernels.execution.registry import kernel
    from tqgen_kernels.tuning.record.buckets import tuned_as

    tuned = {tuned_as(record.parsed_problem): record for record in records}
    rows = []
    for problem in problems:
        choice = kernel(problem).choice
        runs = str(choice.config) if choice.config else "plain MLX"
        record = tuned.get(tuned_as(problem))
        tried = _tried(record) if record is not None else "-"
        rows.append(Chosen(label(problem), runs, choice.origin, choice.detail, tried))
    return rows


def _tried(record: Record) -> str:
    outcomes = Counter(result.outcome for result in record.results)
    names = {"constraints": "ruled out", "correctness": "wrong"}
    text = ", ".join(f"{n} {names.get(outcome, outcome)}" for outcome, n in outcomes.most_common())
    return f"{text} (emulator)" if record.environment.backend == "emulated" else text
