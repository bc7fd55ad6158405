"""Runs a kernel of a .metal file on random inputs, with every detector on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tqgen_kernels.emulator.checker.diagnostic import Diagnostic
from tqgen_kernels.emulator.checker.kernels import Buffer, KernelText, dtype_of
from tqgen_kernels.emulator.faults import Finding, MetalCompileError, MetalFault, MetalWarning
from tqgen_kernels.emulator.signature import Dtype, GeneratedKernel, InputSpec, metal_source

ELEMENTS = 1024  # of an array whose shape is not given
FEW = 7  # of one in the constant address space: MLX passes fewer than 8 elements there
TIMEOUT = 10.0  # seconds for a launch
Order = Literal["ascending", "descending", "random"]
ORDERS: tuple[Order, ...] = ("ascending", "descending", "random")


@dataclass(frozen=True, slots=True)
class Given:
    """What the author says of a launch; the rest is chosen here.

    shapes, values: of buffers by name. A value fills the buffer. template: by parameter.
    grid, threadgroup: in threads.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    template: Mapping[str, str] = field(default_factory=dict)
    grid: tuple[int, int, int] | None = None
    threadgroup: tuple[int, int, int] | None = None
    init_value: float | None = None

    def check_names(self, kernels: Sequence[KernelText]) -> None:
        """Raises ValueError for a name that no buffer or template parameter of any kernel has."""
        known = [_plain(buffer) for kernel in kernels for buffer in kernel.buffers]
        known += [name for kernel in kernels for name, _ in kernel.template]
        for name in (*self.shapes, *self.values, *self.template):
            if name not in known:
                have = ", ".join(dict.fromkeys(known))
                raise ValueError(f"no kernel here has a parameter {name!r}; they have {have}")


@dataclass(frozen=True, slots=True)
class Call:
    """A launch of a kernel: keyword arguments of metal_kernel and of the call, and its words."""

    build: Mapping[str, Any]
    launch: Mapping[str, Any]
    words: str


def fuzz(
    kernel: KernelText, given: Given, *, rounds: int = 3, seed: int = 0
) -> tuple[list[Diagnostic], list[str]]:
    """(what was found, what was run): every instance of the kernel, `rounds` launches of each.

    The first round runs threads in ascending order, the second in descending order, the others at
    random; from the second on there are a few threads too many. Lines are those of the file.

    Raises:
        ValueError: the launch cannot be chosen; says what to give.
    """
    diagnostics: dict[tuple[int, str], Diagnostic] = {}
    words = []
    for instance in _instances(kernel, given):
        call = None
        for round_ in range(rounds):
            call = _call(kernel, given, instance, seed + round_, over=round_ > 0)
            order = ORDERS[min(round_, 2)]
            for diagnostic in run(call, kernel, order, seed + round_):
                diagnostics.setdefault((diagnostic.line, diagnostic.rule), diagnostic)
        if call:
            words.append(call.words)
    return sorted(diagnostics.values(), key=lambda d: (d.line, d.column)), words


def generated(kernel: KernelText, given: Given) -> GeneratedKernel:
    """The text that MLX would make of the first launch."""
    call = _call(kernel, given, _instances(kernel, given)[0], 0, over=False)
    inputs = [InputSpec(_name(a.dtype), tuple(a.shape), ()) for a in call.launch["inputs"]]
    template = [
        (name, value if isinstance(value, int) else Dtype(_name(value)))
        for name, value in call.launch["template"]
    ]
    return metal_source(
        **call.build,
        inputs=inputs,
        output_dtypes=[_name(dtype) for dtype in call.launch["output_dtypes"]],
        template=template,
    )


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("mlx.core.")


def run(call: Call, kernel: KernelText, order: Order, seed: int) -> list[Diagnostic]:
    """What one launch finds."""
    from tqgen_kernels import emulator

    with emulator.options(checks="full", order=order, seed=seed, timeout=TIMEOUT) as used:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MetalWarning)  # `used` has them
                emulator.metal_kernel(**call.build)(**call.launch)
        except MetalFault as fault:
            used.findings.extend(f for f in fault.findings if f not in used.findings)
        except MetalCompileError as error:
            return _compile_errors(str(error), kernel)
    return [located(finding, kernel) for finding in used.findings]


def located(finding: Finding, kernel: KernelText) -> Diagnostic:
    """A finding of a run, with the line of the file."""
    line = finding.line or 1
    if finding.line is None:
        line = kernel.line
    elif finding.part == "source":
        line = kernel.body_line + finding.line - 1
    severity: Literal["error", "warning"] = "warning" if finding.soft else "error"
    return Diagnostic(line, 1, severity, finding.kind, words_of(finding))


def words_of(finding: Finding) -> str:
    """What a finding says, without its place and kind."""
    message = re.sub(r"^[^ ]*: (error|warning): ", "", finding.message)
    return message.removesuffix(f" [{finding.kind}]")


def _compile_errors(text: str, kernel: KernelText) -> list[Diagnostic]:
    found = []
    for part, line, message in re.findall(
        r"^[^\n:]*?(\.header)?:(\d+)(?::\d+)?: (?:fatal )?error: (.*)$", text, re.M
    ):
        at = int(line) if part else kernel.body_line + int(line) - 1
        found.append(Diagnostic(at, 1, "error", "compile", message))
    return found or [Diagnostic(kernel.line, kernel.column, "error", "compile", text)]


def _instances(kernel: KernelText, given: Given) -> list[dict[str, str]]:
    """Values of the template's parameters, as text: those given, else those of the file."""
    names = [name for name, _ in kernel.template]
    written = [dict(zip(names, values, strict=False)) for values in kernel.instances] or [{}]
    chosen = []
    for values in written:
        both = {**values, **{n: v for n, v in given.template.items() if n in names}}
        missing = [name for name in names if name not in both]
        if missing:
            options = " ".join(f"--template {name}=..." for name in missing)
            raise ValueError(
                f"{kernel.name} is a template that the file does not instantiate: give {options}"
            )
        if both not in chosen:
            chosen.append(both)
    return chosen


def _call(
    kernel: KernelText, given: Given, instance: Mapping[str, str], seed: int, *, over: bool
) -> Call:
    import mlx.core as mx
    import numpy as np

    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for buffer in kernel.buffers:
        if not buffer.is_output:
            dtype = _dtype(kernel, buffer, instance)
            shape = given.shapes.get(_plain(buffer), _default_shape(buffer))
            value = given.values.get(_plain(buffer))
            arrays[buffer.name] = _array(mx, rng, dtype, shape, value)
    outputs = [buffer for buffer in kernel.buffers if buffer.is_output]
    largest = max((a.shape for a in arrays.values() if a.ndim), key=_size, default=(ELEMENTS,))
    shapes = [given.shapes.get(_plain(b), _default_output(largest)) for b in outputs]
    elements = _size(shapes[0]) // outputs[0].lanes
    grid, threadgroup = _geometry(kernel, given, elements, over)
    template = [(name, _value(mx, kernel, name, instance[name])) for name, _ in kernel.template]
    build = {
        "name": kernel.name,
        "input_names": list(arrays),
        "output_names": [buffer.name for buffer in outputs],
        "source": kernel.source,
        "header": kernel.header,
        "atomic_outputs": kernel.atomic_outputs,
    }
    launch = {
        "inputs": list(arrays.values()),
        "template": template,
        "grid": grid,
        "threadgroup": threadgroup,
        "output_shapes": shapes,
        "output_dtypes": [_mlx_dtype(mx, _dtype(kernel, b, instance)) for b in outputs],
        "init_value": given.init_value,
    }
    words = ", ".join(
        [
            *(f"{name}={value}" for name, value in instance.items()),
            *(f"{name}{list(a.shape)}" for name, a in arrays.items() if a.ndim),
            *(f"{b.name}{list(shape)}" for b, shape in zip(outputs, shapes, strict=True)),
            f"grid {'x'.join(map(str, grid))}",
            f"threadgroup {'x'.join(map(str, threadgroup))}",
        ]
    )
    return Call(build, launch, f"{kernel.name}: {words}")


def _plain(buffer: Buffer) -> str:
    return buffer.name.removesuffix("_elements")


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _default_shape(buffer: Buffer) -> tuple[int, ...]:
    if buffer.is_scalar:
        return ()
    return (FEW,) if buffer.is_constant else (ELEMENTS,)


def _default_output(largest: tuple[int, ...]) -> tuple[int, ...]:
    return largest if _size(largest) >= FEW + 1 else (ELEMENTS,)


def _dtype(kernel: KernelText, buffer: Buffer, instance: Mapping[str, str]) -> str:
    written = instance.get(buffer.type_name, buffer.type_name)
    dtype = buffer.dtype or dtype_of(written)
    if dtype is None:
        raise ValueError(
            f"{kernel.name}: MLX has no arrays of {written}, the type of '{_plain(buffer)}'"
        )
    return dtype


def _mlx_dtype(mx: Any, name: str) -> Any:
    return mx.bool_ if name == "bool" else getattr(mx, name)


def _value(mx: Any, kernel: KernelText, name: str, text: str) -> Any:
    """A template's value from its text: 3, true, half or float16."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"-?\d+", text):
        return bool(int(text)) if dict(kernel.template)[name] == "bool" else int(text)
    dtype = dtype_of(text)
    if dtype is None:
        raise ValueError(f"{kernel.name}: {name}={text!r} is no integer, bool or type of MLX")
    return _mlx_dtype(mx, dtype)


def _array(mx: Any, rng: Any, dtype: str, shape: tuple[int, ...], value: float | None) -> Any:
    """Random numbers: normal floats, small non-negative integers; a scalar integer is a length."""
    if value is not None:
        return mx.full(shape, value, dtype=_mlx_dtype(mx, dtype))
    if dtype.startswith(("float", "bfloat", "complex")):
        return mx.array(rng.standard_normal(shape).astype("float32")).astype(_mlx_dtype(mx, dtype))
    if dtype == "bool":
        return mx.array(rng.random(shape) < 0.5)
    if not shape:
        return mx.array(100 if dtype.endswith("int8") else ELEMENTS, dtype=_mlx_dtype(mx, dtype))
    return mx.array(rng.integers(0, 100, shape)).astype(_mlx_dtype(mx, dtype))


def _geometry(
    kernel: KernelText, given: Given, elements: int, over: bool
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """A thread an output element; in two dimensions if the kernel looks at the second.

    over: some threads more than there are elements, if the kernel compares with a length.
    """
    positions = re.findall(r"const u\w+[23] (\w+) = ", kernel.aliases)
    names = "|".join(["thread_position_in_grid", "threadgroup_position_in_grid", *positions])
    flat = not re.search(rf"\b({names})\s*\.\s*(y|xy|yx)\b", kernel.body)
    if flat:
        extra = 3 if over and _compares_with_length(kernel) else 0
        return given.grid or (elements + extra, 1, 1), given.threadgroup or (256, 1, 1)
    side = max(1, int(elements**0.5))
    return given.grid or (side, -(-elements // side), 1), given.threadgroup or (16, 16, 1)


def _compares_with_length(kernel: KernelText) -> bool:
    """Whether an integer of its own, such as `n` in `if (i < n)`, bounds the threads that work."""
    return any(
        b.is_scalar
        and (b.dtype or "").lstrip("u").startswith("int")
        and re.search(rf"[<>]=?\s*\(?\s*(\w+\()?{b.name}\b", kernel.body)
        for b in kernel.buffers
    )
