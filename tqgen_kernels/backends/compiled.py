"""A variant that a backend has built, called by input names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Example, Family, Verification
from tqgen_kernels.codegen.problem import family_of
from tqgen_kernels.codegen.variant import Launch, Shape, Variant

if TYPE_CHECKING:
    from tqgen_kernels.backends import Launcher


@dataclass(frozen=True)
class Compiled:
    """Lazy, as every MLX operation: kernel(inputs by name, scalars of the geometry) -> outputs."""

    variant: Variant
    backend: str
    launcher: Launcher

    @property
    def family(self) -> Family:
        return FAMILIES[family_of(self.variant.problem)]

    def __call__(
        self, inputs: Mapping[str, mx.array], scalars: Mapping[str, int]
    ) -> list[mx.array]:
        """The outputs in the family's order. Raises what the backend raises at launch."""
        geometry = self.geometry({name: a.shape for name, a in inputs.items()}, scalars)
        return self.launcher(geometry)([inputs[name] for name in self.variant.input_names])

    def geometry(self, shapes: Mapping[str, Shape], scalars: Mapping[str, int]) -> Launch:
        """Grid, threadgroup and outputs for inputs of these shapes."""
        return self.family.launch(self.variant.problem, self.variant.config, shapes, scalars)

    def verify(self, seed: int = 0, tokens: int | None = None) -> Verification:
        """Runs an example of the problem and compares it with the float64 reference."""
        problem, config = self.variant.problem, self.variant.config
        example = self.family.example(problem, np.random.default_rng(seed), tokens, config)
        outputs = self(example_arrays(example), example.scalars)
        mx.eval(outputs)
        named = zip(self.variant.output_names, map(to_numpy, outputs), strict=True)
        return self.family.verify(problem, example, dict(named))


def example_arrays(example: Example) -> dict[str, mx.array]:
    """The example's inputs as MLX arrays of the dtypes that the kernel takes."""
    arrays = {name: mx.array(value) for name, value in example.inputs.items()}
    for name, dtype in example.casts.items():
        arrays[name] = arrays[name].astype(getattr(mx, dtype))
    mx.eval(arrays)
    return arrays


def to_numpy(array: mx.array) -> np.ndarray[Any, np.dtype[Any]]:
    """NumPy has no bfloat16: such an array comes back as float32."""
    return np.array(array.astype(mx.float32) if array.dtype == mx.bfloat16 else array)
