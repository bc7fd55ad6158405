"""What a kernel family declares, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.variant import Config, Launch, Shape, Value

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Tunable:
    """One axis of the search space. Values in declared order: ties go to the earlier one."""

    name: str
    values: tuple[Value, ...]
    meaning: str


@dataclass(frozen=True)
class Restriction:
    """`allows(problem, config)` false removes a candidate for this reason."""

    reason: str
    allows: Callable[[Any, Config], bool]


@dataclass(frozen=True)
class Example:
    """Inputs of one launch, and the scalars its geometry needs (`tiles`, `splits`, ...).

    casts: dtype by input name, where the kernel takes another one than the NumPy array has
    (NumPy has no bfloat16: such an input is float32 here, already rounded).
    """

    inputs: Arrays
    scalars: Mapping[str, int]
    casts: Mapping[str, str]


@dataclass(frozen=True)
class Verification:
    """Error of a kernel's outputs against the float64 reference, and what is allowed."""

    error: float
    tolerance: float
    measure: str

    @property
    def passed(self) -> bool:
        return bool(np.isfinite(self.error)) and self.error <= self.tolerance


@dataclass(frozen=True)
class Family:
    """Everything that is particular to one kernel family.

    extra_inputs(problem), extra_outputs(problem): names, after the others, that only some problems
        have.
    template: its file; may name tunables and what context gives, in braces.
    tunables(problem): the axes of the search space.
    context(problem, config): the names that the template sees.
    launch(problem, config, shapes of the inputs by name, scalars): geometry and outputs.
    threadgroup_memory(problem, config): bytes of static threadgroup memory.
    example(problem, rng, tokens, config): inputs by name, NumPy; `tokens` overrides
        problem.context, `config` decides what the geometry leaves to it.
    adapt(problem, example, config): the same example for another config, made without new data;
        None where the example does not depend on it.
    verify(problem, inputs, outputs): against the reference in float64.
    bytes_moved(problem, shapes): the fewest bytes that must cross device memory.
    untuned: the road that runs until a record of this device says that a kernel is faster; None:
        the default config runs.
    """

    name: str
    problem: type
    template: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tunables: Callable[[Any], tuple[Tunable, ...]]
    restrictions: tuple[Restriction, ...]
    default: Callable[[Any], Config]
    context: Callable[[Any, Config], dict[str, Any]]
    launch: Callable[[Any, Config, Mapping[str, Shape], Mapping[str, int]], Launch]
    threadgroup_memory: Callable[[Any, Config], int]
    example: Callable[..., Example]
    verify: Callable[[Any, Example, Arrays], Verification]
    bytes_moved: Callable[[Any], int]
    adapt: Callable[[Any, Example, Config], Example] | None = None
    extra_inputs: Callable[[Any], tuple[str, ...]] = lambda problem: ()
    extra_outputs: Callable[[Any], tuple[str, ...]] = lambda problem: ()
    untuned: str | None = None

    def without_record(self, problem: Any) -> Config | str:
        """What runs where no record decides: a config, or the name of a road."""
        return self.untuned or self.default(problem)
