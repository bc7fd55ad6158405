"""Whether the ordinary verification notices a mutant."""

from __future__ import annotations

import dataclasses
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import mlx.core as mx
import numpy as np

from tests.mutation.examples import hard_examples
from tests.mutation.mutants import Mutant
from tests.mutation.subjects import Subject
from tqgen_kernels import emulator
from tqgen_kernels.backends import emulated
from tqgen_kernels.backends.compiled import Compiled, example_arrays, to_numpy
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.family import Example
from tqgen_kernels.codegen.problem import family_of
from tqgen_kernels.codegen.render import render
from tqgen_kernels.codegen.variant import Variant
from tqgen_kernels.emulator.build import kernel_library
from tqgen_kernels.emulator.compiler import find_compiler
from tqgen_kernels.emulator.signature import InputSpec, metal_source

TIMEOUT = 5.0  # seconds after which a mutant hangs
ORDERS = ("ascending", "random")


@dataclass(frozen=True)
class Verdict:
    """`how`: wrong result, fault, soft finding, refused, does not compile, equivalent, survived.

    A mutant is killed by a wrong result, a fault, a soft finding or a refused launch.
    """

    how: str
    detail: str = ""

    @property
    def killed(self) -> bool:
        return self.how in ("wrong result", "fault", "soft finding", "refused")

    @property
    def counts(self) -> bool:
        """Whether there was anything to notice."""
        return self.how not in ("does not compile", "equivalent")


@dataclass(frozen=True)
class Bench:
    """A subject with its examples, made once."""

    subject: Subject

    @cached_property
    def variant(self) -> Variant:
        return render(self.subject.problem, self.subject.config)

    @cached_property
    def examples(self) -> list[Example]:
        subject = self.subject
        family = FAMILIES[family_of(subject.problem)]
        plain = [
            family.example(subject.problem, np.random.default_rng(seed), tokens, subject.config)
            for seed, tokens in enumerate(subject.tokens)
        ]
        return [*plain, *hard_examples(subject.problem, plain[-1])]

    @cached_property
    def machine_code(self) -> bytes:
        return _machine_code(self, self.variant)

    def judge(self, mutant: Mutant) -> Verdict:
        """What the verification says of a mutant."""
        return self.verify(dataclasses.replace(self.variant, **{mutant.part: mutant.text}))

    def verify(self, variant: Variant) -> Verdict:
        """Runs every example in every order of threads, with every detector on."""
        compiled = Compiled(variant, emulated.NAME, emulated.build(variant))
        soft: list[emulator.Finding] = []
        for order in ORDERS:
            for example in self.examples:
                with (
                    emulator.options(checks="full", order=order, timeout=TIMEOUT) as used,
                    warnings.catch_warnings(),
                ):
                    try:
                        warnings.simplefilter("ignore", emulator.MetalWarning)
                        outputs = compiled(example_arrays(example), example.scalars)
                        mx.eval(outputs)
                    except emulator.MetalFault as fault:
                        return Verdict("fault", fault.findings[0].kind)
                    except emulator.MetalCompileError as error:
                        return Verdict("does not compile", str(error))
                    except ValueError as error:
                        return Verdict("refused", str(error))
                named = zip(compiled.family.outputs, map(to_numpy, outputs), strict=True)
                result = compiled.family.verify(variant.problem, example, dict(named))
                if not result.passed:
                    return Verdict("wrong result", f"{result.error:.3g} > {result.tolerance:.3g}")
                soft += used.findings
        if soft:
            return Verdict("soft finding", soft[0].kind)
        if variant is not self.variant and _machine_code(self, variant) == self.machine_code:
            return Verdict("equivalent", "the compiler makes the same machine code of it")
        return Verdict("survived")


def _machine_code(bench: Bench, variant: Variant) -> bytes:
    """The kernel without checks, as instructions: equal for texts that mean the same."""
    example = bench.examples[0]
    arrays = example_arrays(example)
    compiled = Compiled(variant, emulated.NAME, emulated.build(variant))
    geometry = compiled.geometry({n: a.shape for n, a in arrays.items()}, example.scalars)
    specs = [
        InputSpec(str(a.dtype).removeprefix("mlx.core."), tuple(a.shape), ())
        for a in (arrays[name] for name in variant.input_names)
    ]
    generated = metal_source(
        "mutant", variant.input_names, variant.output_names, variant.source, variant.header,
        False, specs, geometry.output_dtypes,
    )  # fmt: skip
    return _sections(
        kernel_library(find_compiler(), "mutant", generated, "", checked=False),
        (".text", ".rodata"),
    )


def _sections(path: Path, names: Sequence[str]) -> bytes:
    """Contents of named sections (and of those named after them) of a 64-bit ELF file."""
    data = path.read_bytes()
    (offset,) = struct.unpack_from("<Q", data, 40)
    size, count, strings = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    table = headers[strings][4]
    found = b""
    for name, kind, _, _, begin, length in headers:
        title = data[table + name : data.index(b"\0", table + name)].decode()
        if kind == 1 and title.startswith(tuple(names)):
            found += data[begin : begin + length]
    return found
