"""Every kind of fault is found, at the right line, and nothing else is."""

import mlx.core as mx
import pytest

from tests.emulator.faulty import Faulty
from tests.emulator.kernel_files import kernels
from tqgen_kernels import emulator


def run(case: Faulty, **options: object) -> list[emulator.Finding]:
    """Findings of a launch, whether they were raised or not."""
    kernel = emulator.metal_kernel(
        name=case.name,
        input_names=["x"],
        output_names=["out"],
        source=case.source,
        header=case.header,
    )
    with emulator.options(**options) as used:  # type: ignore[arg-type]
        try:
            kernel(
                inputs=[mx.arange(case.size).astype(case.dtype)],
                grid=(case.threads, 1, 1),
                threadgroup=(case.group, 1, 1),
                output_shapes=[(case.out_size,)],
                output_dtypes=[mx.float32],
                init_value=case.init,
            )
        except emulator.MetalFault:
            assert any(not finding.soft for finding in used.findings)
    return used.findings


FILES = (
    "basics", "control", "correct", "loops", "out_of_bounds", "races", "structs", "uninitialised",
    "values",
)  # fmt: skip
KERNELS = [case for name in FILES for case in kernels(name)]
FAULTS = [case for case in KERNELS if case.kind != "correct"]
CORRECT = [case for case in KERNELS if case.kind == "correct"]


@pytest.mark.filterwarnings("ignore::tqgen_kernels.emulator.MetalWarning")
@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.name)
def test_found_at_its_line(case: Faulty) -> None:
    findings = run(case, checks="full", order=case.order, timeout=0.3)
    # A case without a mark has its fault in the header, or no line at all.
    marked = case.line() is not None
    places = [(f.kind, f.line if marked else None, f.soft) for f in findings]
    assert (case.kind, case.line(), case.soft) in places
    # One cause may show in more ways, but only at the lines that have to do with it.
    assert {f.line for f in findings if f.part == "source" and marked} <= case.concerned()
    finding = next(
        f
        for f, place in zip(findings, places, strict=True)
        if place[:2] == (case.kind, case.line())
    )
    assert finding.kernel == case.name
    for name, expected in (
        ("address_space", case.space),
        ("buffer", case.buffer),
        ("index", case.index),
    ):
        if expected is not None:
            assert getattr(finding, name) == expected
    assert finding.thread is not None
    assert f"[{case.kind}]" in finding.message


@pytest.mark.parametrize("order", ["ascending", "random"])
@pytest.mark.parametrize("case", CORRECT, ids=lambda case: case.name)
def test_nothing_is_found_in_a_correct_kernel(case: Faulty, order: str) -> None:
    assert run(case, checks="full", order=order, timeout=20) == []


@pytest.mark.parametrize("case", [c for c in FAULTS if c.fast], ids=lambda case: case.name)
def test_found_without_the_detectors(case: Faulty) -> None:
    findings = run(case, checks="fast", timeout=0.3)
    assert (case.kind, case.line()) in [(f.kind, f.line) for f in findings]
    assert {f.line for f in findings} <= case.concerned()


@pytest.mark.parametrize(
    "case", [c for c in kernels("basics") if c.soft], ids=lambda case: case.name
)
def test_soft_findings_raise_only_when_strict(case: Faulty) -> None:
    kernel = emulator.metal_kernel(
        name=case.name, input_names=["x"], output_names=["out"], source=case.source
    )
    call = {
        "inputs": [mx.arange(case.size).astype(mx.float32)],
        "grid": (case.threads, 1, 1),
        "threadgroup": (case.group, 1, 1),
        "output_shapes": [(case.out_size,)],
        "output_dtypes": [mx.float32],
        "init_value": case.init,
    }
    with pytest.warns(emulator.MetalWarning, match=case.kind):
        kernel(**call)  # type: ignore[arg-type]
    with emulator.options(strict=True), pytest.raises(emulator.MetalFault) as raised:
        kernel(**call)  # type: ignore[arg-type]
    assert raised.value.findings[0].kind == case.kind


def test_too_many_threads_is_a_fault_and_a_value_error() -> None:
    kernel = emulator.metal_kernel(
        name="wide", input_names=[], output_names=["out"], source="out[0] = 1.0f;"
    )
    with pytest.raises(emulator.MetalFault) as raised:
        kernel(
            inputs=[],
            grid=(2048, 1, 1),
            threadgroup=(1025, 1, 1),
            output_shapes=[(1,)],
            output_dtypes=[mx.float32],
        )
    assert isinstance(raised.value, ValueError)
    assert [f.kind for f in raised.value.findings] == ["too-many-threads"]


def test_a_fault_in_the_header_names_the_header() -> None:
    kernel = emulator.metal_kernel(
        name="helper",
        input_names=["x"],
        output_names=["out"],
        header="float take(device const float* p, uint i) {\n  return p[i];\n}\n",
        source="out[thread_position_in_grid.x] = take(x, thread_position_in_grid.x + 8);",
    )
    with pytest.raises(emulator.MetalFault) as raised:
        kernel(
            inputs=[mx.zeros((8,))],
            grid=(8, 1, 1),
            threadgroup=(8, 1, 1),
            output_shapes=[(8,)],
            output_dtypes=[mx.float32],
        )
    (finding,) = raised.value.findings
    assert (finding.part, finding.line, finding.index) == ("header", 2, 8)
    assert finding.message.startswith("helper.header:2: error:")
