"""A stand-in for mx.fast.metal_kernel: the same call, run on the CPU."""

import ctypes
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from math import prod
from typing import Any, Literal, cast, get_args

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.emulator.build import kernel_library
from tqgen_kernels.emulator.compiler import Compiler, find_compiler
from tqgen_kernels.emulator.entry import template_arguments
from tqgen_kernels.emulator.faults import Finding, MetalFault, MetalWarning, TooManyThreads
from tqgen_kernels.emulator.launch import Library, Memory, launch, load
from tqgen_kernels.emulator.options import Options, current
from tqgen_kernels.emulator.report import Launched, describe
from tqgen_kernels.emulator.signature import (
    METAL_TYPES,
    Dtype,
    GeneratedKernel,
    InputSpec,
    TemplateValue,
    metal_source,
)

MathMode = Literal["safe", "relaxed", "fast"]
MAX_THREADS = 1024  # of one threadgroup
MAX_KEPT = 1000  # findings that options remember


class MetalKernel:
    """What `metal_kernel` returns: call it as MLX's own."""

    def __init__(
        self,
        name: str,
        input_names: Sequence[str],
        output_names: Sequence[str],
        source: str,
        header: str,
        ensure_row_contiguous: bool,
        atomic_outputs: bool,
        math_mode: MathMode = "safe",
    ) -> None:
        self.name = name
        self.input_names = tuple(input_names)
        self.output_names = tuple(output_names)
        self.source = source
        self.header = header
        self.ensure_row_contiguous = ensure_row_contiguous
        self.atomic_outputs = atomic_outputs
        self.math_mode = math_mode
        self._loaded: dict[object, tuple[GeneratedKernel, Library]] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Sequence[int],
        threadgroup: Sequence[int],
        template: Sequence[tuple[str, Any]] | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[mx.array]:
        """Runs the kernel at once and returns its outputs.

        Raises:
            ValueError: as MLX does, for arguments that do not fit.
            MetalCompileError: the source does not compile.
            MetalFault: the kernel did something wrong.
        """
        del stream
        options = current()
        compiler = find_compiler(options.compiler)
        arrays = [value if isinstance(value, mx.array) else mx.array(value) for value in inputs]
        if len(output_shapes) != len(self.output_names):
            raise ValueError(
                f"[metal_kernel] Expected `output_shapes` to have size {len(self.output_names)} "
                f"but got size {len(output_shapes)}."
            )
        grid3, group3 = _sizes("grid", grid), _sizes("threadgroup", threadgroup)
        if prod(group3) > MAX_THREADS:
            raise _too_many_threads(self.name, group3)
        _evaluate(self.name, arrays)
        views = [_view(array, self.ensure_row_contiguous) for array in arrays]
        generated, library = self._prepare(
            compiler, options, arrays, views, output_dtypes, tuple(template or ())
        )
        if verbose:
            print(f"Generated source code for `{self.name}`:\n```\n{generated.text}\n```")  # noqa: T201
        memory = self._input_memory(generated, views)
        outputs = [
            _output(shape, dtype) for shape, dtype in zip(output_shapes, output_dtypes, strict=True)
        ]
        for out in outputs:
            filled = None if init_value is None else _filled(out, init_value)
            memory.append(Memory(filled, _bytes(out[0]), out[0].nbytes, 0, out[0].itemsize))
        group3 = tuple(min(t, g) for t, g in zip(group3, grid3, strict=True))  # type: ignore[assignment]
        if not prod(grid3):
            for m in memory:
                if m.results is not None and m.data is not None:
                    m.results[:] = m.data
            return [_array(values, dtype) for values, dtype in outputs]
        raw = launch(compiler, library, memory, grid3, group3, options)
        if raw:
            launched = Launched(self.name, generated, library, group3, options.timeout)
            _raise_or_record(describe(raw, launched), options)
        return [_array(values, dtype) for values, dtype in outputs]

    def _prepare(
        self,
        compiler: Compiler,
        options: Options,
        arrays: Sequence[mx.array],
        views: Sequence[NDArray[Any]],
        output_dtypes: Sequence[mx.Dtype],
        template: tuple[tuple[str, Any], ...],
    ) -> tuple[GeneratedKernel, Library]:
        """Generated text and compiled library, from this object's memory if it was here before."""
        specs = tuple((_name(a.dtype), a.ndim, a.size < 8) for a in arrays)
        values = tuple((name, _template_value(value)) for name, value in template)
        kinds = tuple(type(value) for _, value in values)
        dtypes = tuple(_name(dtype) for dtype in output_dtypes)
        checked = options.checks == "full"
        key = (compiler, checked, specs, values, kinds, dtypes)
        found = self._loaded.get(key)
        if found is None:
            inputs = [
                InputSpec(_name(a.dtype), tuple(a.shape), tuple(s // v.itemsize for s in v.strides))
                for a, v in zip(arrays, views, strict=True)
            ]
            generated = metal_source(
                self.name, self.input_names, self.output_names, self.source, self.header,
                self.atomic_outputs, inputs, dtypes, values, mlx_version=_mlx_version(),
            )  # fmt: skip
            arguments = template_arguments([_metal_text(value) for _, value in values])
            library = self._library(compiler, generated, arguments, checked)
            found = self._loaded[key] = generated, library
        return found

    def _library(
        self, compiler: Compiler, generated: GeneratedKernel, arguments: str, checked: bool
    ) -> Library:
        fast_math = self.math_mode == "fast"
        path = kernel_library(
            compiler, self.name, generated, arguments, checked=checked, fast_math=fast_math
        )
        return load(compiler, path)

    def _input_memory(
        self, generated: GeneratedKernel, views: Sequence[NDArray[Any]]
    ) -> list[Memory]:
        """Buffers in the order of their indices, outputs left out."""
        by_name = dict(zip(self.input_names, views, strict=True))
        memory = []
        source: NDArray[Any] | None = None
        for parameter in generated.parameters:
            if parameter.kind == "input":
                source = by_name[parameter.name]
                memory.append(_extent(source))
                continue
            if source is None or parameter.kind in ("output", "attribute"):
                continue
            if parameter.kind == "shape":
                extra = np.array(source.shape, np.int32)
            elif parameter.kind == "strides":
                extra = np.array([s // source.itemsize for s in source.strides], np.int64)
            else:
                extra = np.array([source.ndim], np.int32)
            memory.append(Memory(_bytes(extra), None, extra.nbytes, 0, extra.itemsize))
        return memory


def metal_kernel(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str = "",
    ensure_row_contiguous: bool = True,
    atomic_outputs: bool = False,
    compile_options: Mapping[str, Any] | None = None,
) -> MetalKernel:
    """A kernel from Metal source, as mx.fast.metal_kernel makes it, to be run on the CPU.

    compile_options: `{"math_mode": "safe" | "relaxed" | "fast"}`. "fast" defines `__FAST_MATH__`,
        as Apple's compiler does; the arithmetic is the same in every mode.

    Raises:
        ValueError: no output, or compile options that MLX refuses.
    """
    if not output_names:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    return MetalKernel(
        name, input_names, output_names, source, header, ensure_row_contiguous, atomic_outputs,
        _math_mode(compile_options),
    )  # fmt: skip


def _math_mode(compile_options: Mapping[str, Any] | None) -> MathMode:
    if compile_options is None:
        return "safe"
    if not isinstance(compile_options, dict):
        raise ValueError(
            "[metal_kernel] Expected `compile_options` to be a dict, "
            f"but got {type(compile_options).__name__}."
        )
    for option in compile_options:
        if option != "math_mode":
            raise ValueError(
                f"[metal_kernel] Unknown compile option `{option}`; MLX knows `math_mode`."
            )
    mode = compile_options.get("math_mode", "safe")
    if mode not in get_args(MathMode):
        raise ValueError(
            "[metal_kernel] Expected math_mode to be 'safe', 'relaxed', or 'fast', "
            f"but got {mode!r}."
        )
    return cast(MathMode, mode)


@cache
def _mlx_version() -> tuple[int, ...]:
    """Of the installed MLX; a development build counts as its release."""
    return tuple(int(part) for part in re.findall(r"\d+", version("mlx"))[:3])


def _too_many_threads(name: str, threadgroup: tuple[int, int, int]) -> TooManyThreads:
    message = (
        f"[metal_kernel] {name}: error: a threadgroup of {threadgroup} has {prod(threadgroup)} "
        f"threads; Metal allows {MAX_THREADS} [too-many-threads]"
    )
    finding = Finding(
        "too-many-threads", name, None, None, None, None, prod(threadgroup), message, False
    )
    return TooManyThreads((finding,))


def _raise_or_record(findings: tuple[Finding, ...], options: Options) -> None:
    options.findings.extend(findings)
    del options.findings[:-MAX_KEPT]
    if any(options.strict or not finding.soft for finding in findings):
        raise MetalFault(findings)
    for finding in findings:
        warnings.warn(finding.message, MetalWarning, stacklevel=3)


def _sizes(what: str, given: Sequence[int]) -> tuple[int, int, int]:
    if not 1 <= len(given) <= 3:
        raise ValueError(f"[metal_kernel] {what} has {len(given)} sizes; give 1 to 3.")
    sizes = (*(int(n) for n in given), 1, 1)[:3]
    least = 0 if what == "grid" else 1
    if any(not least <= n < 2**32 for n in sizes):
        raise ValueError(
            f"[metal_kernel] {what}={tuple(given)}: sizes go from {least} to 2**32 - 1."
        )
    return sizes[0], sizes[1], sizes[2]


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).removeprefix("mlx.core.")


def _template_value(value: Any) -> TemplateValue:
    if isinstance(value, mx.Dtype):
        return Dtype(_name(value))
    if isinstance(value, bool | int):
        return value
    raise ValueError(
        f"[metal_kernel] Invalid template argument {value!r}. "
        "Must be `mlx.core.Dtype`, `int` or `bool`."
    )


def _metal_text(value: TemplateValue) -> str:
    return METAL_TYPES[value.name] if isinstance(value, Dtype) else str(int(value))


def _evaluate(name: str, arrays: Sequence[mx.array]) -> None:
    try:
        mx.eval(*arrays)
    except (RuntimeError, ValueError) as error:
        if "transformation" not in str(error):
            raise
        raise RuntimeError(
            f"The emulator runs '{name}' at the call: it cannot be inside mx.compile, mx.vmap or "
            "an export. Call mx.disable_compile() before the code under test is imported."
        ) from error


def _view(array: mx.array, row_contiguous: bool) -> NDArray[Any]:
    """The array's own memory; numpy has no bfloat16, so that comes as uint16."""
    plain = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
    view: NDArray[Any] = np.asarray(plain)
    return np.ascontiguousarray(view).reshape(view.shape) if row_contiguous else view


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return values.reshape(-1).view(np.uint8)


def _extent(view: NDArray[Any]) -> Memory:
    """Everything between the lowest and the highest element of a strided array."""
    if view.flags.c_contiguous:
        return Memory(_bytes(view), None, view.nbytes, 0, view.itemsize)
    low, high = np.lib.array_utils.byte_bounds(view)
    start = view.__array_interface__["data"][0]
    data = np.frombuffer(ctypes.string_at(low, high - low), np.uint8)
    return Memory(data, None, high - low, start - low, view.itemsize)


def _output(shape: Sequence[int], dtype: mx.Dtype) -> tuple[NDArray[Any], mx.Dtype]:
    kind = "uint16" if dtype == mx.bfloat16 else _name(dtype)
    return np.empty(tuple(shape), kind), dtype


def _filled(output: tuple[NDArray[Any], mx.Dtype], value: float) -> NDArray[np.uint8]:
    values, dtype = output
    one = _view(mx.array(value, dtype=dtype).reshape(1), True)
    return _bytes(np.full(values.shape, one[0], values.dtype))


def _array(values: NDArray[Any], dtype: mx.Dtype) -> mx.array:
    array = mx.array(values)
    return array.view(mx.bfloat16) if dtype == mx.bfloat16 else array
