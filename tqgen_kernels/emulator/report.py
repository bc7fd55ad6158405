"""Turns what the runtime recorded into findings with lines, names and sentences."""

from collections.abc import Sequence

from tqgen_kernels.emulator.faults import Finding, MetalFault
from tqgen_kernels.emulator.launch import Library, RawFinding
from tqgen_kernels.emulator.options import Options
from tqgen_kernels.emulator.signature import GeneratedKernel


def raise_faults(
    raw: Sequence[RawFinding],
    name: str,
    kernel: GeneratedKernel,
    library: Library,
    options: Options,
) -> None:
    findings = [
        Finding(
            str(r.kind),
            name,
            r.line or None,
            tuple(r.thread),
            None,
            None,
            r.index,
            f"{name}: kind {r.kind} line {r.line} pc {r.pc - library.base:#x} index {r.index}",
            bool(r.soft),
        )
        for r in raw
    ]
    hard = tuple(f for f in findings if options.strict or not f.soft)
    if hard:
        raise MetalFault(hard)
