"""A rendered kernel and how to launch it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from tqgen_kernels.codegen.problem import Problem

Value: TypeAlias = int | str | bool
Shape: TypeAlias = tuple[int, ...]

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


def code_of(text: str) -> str:
    """`text` without comments, empty lines and indentation: all of it that compiles."""
    lines = (" ".join(line.split()) for line in _COMMENT.sub(" ", text).splitlines())
    return "\n".join(filter(None, lines))


@dataclass(frozen=True)
class Config:
    """Values of a family's tunables, in declared order; hashable and printable."""

    values: tuple[tuple[str, Value], ...]

    @classmethod
    def of(cls, **values: Value) -> Config:
        return cls(tuple(values.items()))

    def __getitem__(self, name: str) -> Value:
        return self.mapping[name]

    @property
    def mapping(self) -> Mapping[str, Value]:
        return MappingProxyType(dict(self.values))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values)


@dataclass(frozen=True)
class Launch:
    """Grid and threadgroup in threads, output shapes and NumPy dtype names."""

    grid: tuple[int, int, int]
    threadgroup: tuple[int, int, int]
    output_shapes: tuple[Shape, ...]
    output_dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """One Metal text: what mx.fast.metal_kernel takes, and where it came from."""

    problem: Problem
    config: Config
    uri: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    header: str
    source: str
    threadgroup_memory: int

    @cached_property
    def sha256(self) -> str:
        """Of the code of header and source: a comment does not change it."""
        code = code_of(self.header) + "\0" + code_of(self.source)
        return hashlib.sha256(code.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The kernel's name. It carries the hash: MLX keys its library by name first."""
        return f"{self.uri}_{self.sha256[:10]}"
