"""How MLX turns a call of ``mx.fast.metal_kernel`` into Metal text.

The rules are those of ``mlx/backend/common/metal_kernel.cpp``. A test compares the result byte for
byte with what MLX prints in export tracing. Nothing here imports mlx.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from tqgen_kernels.emulator.faults import MetalCompileError

METAL_TYPES = {
    "bool": "bool",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float16": "float16_t",
    "bfloat16": "bfloat16_t",
    "float32": "float",
    "float64": "double",
    "complex64": "complex64_t",
}

# In the order in which MLX appends them. One is declared iff its name occurs in the source.
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}

CONSTANT_LIMIT = 8  # inputs of fewer elements are passed in the constant address space
MAX_BUFFERS = 31  # Metal's argument table

# Newest rules. Before 0.32.4 the minus sign of a negative template integer stayed in the name.
NEWEST_MLX = (0, 32, 4)


@dataclass(frozen=True, slots=True)
class Dtype:
    """An MLX dtype by name ("float16"), as a template argument."""

    name: str


TemplateValue = bool | int | Dtype


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What MLX knows of one input: dtype name, shape, and strides in elements."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the generated kernel. `buffer_index` is None for an attribute."""

    name: str
    kind: Literal["input", "shape", "strides", "ndim", "output", "attribute"]
    metal_type: str
    address_space: Literal["constant", "device"] | None
    is_reference: bool
    buffer_index: int | None


@dataclass(frozen=True, slots=True)
class GeneratedKernel:
    """Metal text of one call. The author's source begins at `source_first_line` (1-based)."""

    kernel_name: str
    text: str
    parameters: tuple[Parameter, ...]
    source_first_line: int


def metal_source(
    name: str,
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    header: str,
    atomic_outputs: bool,
    inputs: Sequence[InputSpec],
    output_dtypes: Sequence[str],
    template: Sequence[tuple[str, TemplateValue]] = (),
    mlx_version: tuple[int, ...] = NEWEST_MLX,
) -> GeneratedKernel:
    """The Metal text, without MLX's own utils, that MLX compiles for one call.

    Raises:
        ValueError: as MLX does for wrong counts, template values and float64; also for more than
            31 buffers, which MLX leaves to Metal.
        MetalCompileError: where the text that MLX writes cannot compile: several outputs, no
            attribute and a shape argument; before MLX 0.32.4 also a negative template integer.
    """
    _validate(input_names, output_names, inputs, output_dtypes, template)
    kernel_name = _kernel_name(name, inputs, output_dtypes, template, mlx_version)
    parameters = _parameters(
        input_names, output_names, source, atomic_outputs, inputs, output_dtypes
    )
    _explain_defects(name, kernel_name, output_names, parameters)
    before = _before_source(kernel_name, header, parameters, len(inputs), template)
    return GeneratedKernel(
        kernel_name,
        before + source + "\n}\n" + _instantiation(kernel_name, template),
        parameters,
        source_first_line=before.count("\n") + 1,
    )


def _validate(
    input_names: Sequence[str],
    output_names: Sequence[str],
    inputs: Sequence[InputSpec],
    output_dtypes: Sequence[str],
    template: Sequence[tuple[str, TemplateValue]],
) -> None:
    if not output_names:
        raise ValueError("[metal_kernel] Must specify at least one output.")
    for what, names, given in (
        ("inputs", input_names, len(inputs)),
        ("output_dtypes", output_names, len(output_dtypes)),
    ):
        if len(names) != given:
            raise ValueError(
                f"[metal_kernel] Expected `{what}` to have size {len(names)} but got size {given}."
            )
    template_dtypes = [value.name for _, value in template if isinstance(value, Dtype)]
    for dtype in [*(spec.dtype for spec in inputs), *output_dtypes, *template_dtypes]:
        if dtype not in METAL_TYPES:
            raise ValueError(
                f"[metal_kernel] Unknown dtype {dtype!r}; known are {', '.join(METAL_TYPES)}."
            )
    if "float64" in [*(spec.dtype for spec in inputs), *output_dtypes]:
        raise ValueError(
            "[metal_kernel] float64 is not supported on the GPU. Cast to float32 first."
        )
    for parameter, value in template:
        if isinstance(value, bool | Dtype) or (
            isinstance(value, int) and -(2**31) <= value < 2**31
        ):
            continue
        raise ValueError(
            f"[metal_kernel] Invalid template argument {parameter} = {value!r}. "
            "Must be `mlx.core.Dtype`, `int` (32 bits) or `bool`."
        )


def _kernel_name(
    name: str,
    inputs: Sequence[InputSpec],
    output_dtypes: Sequence[str],
    template: Sequence[tuple[str, TemplateValue]],
    mlx_version: tuple[int, ...],
) -> str:
    parts = [f"custom_kernel_{name}"]
    if template:
        replaced = "[<>-]|, " if mlx_version >= NEWEST_MLX else "[<>]|, "
        parts.append(re.sub(replaced, "_", _template_arguments(template))[:-1])
    for spec in inputs:
        passed = "s" if not spec.shape else "c" if prod(spec.shape) < CONSTANT_LIMIT else ""
        parts.append(METAL_TYPES[spec.dtype] + passed)
    parts += [METAL_TYPES[dtype] for dtype in output_dtypes]
    return "_".join(parts)


def _parameters(
    input_names: Sequence[str],
    output_names: Sequence[str],
    source: str,
    atomic_outputs: bool,
    inputs: Sequence[InputSpec],
    output_dtypes: Sequence[str],
) -> tuple[Parameter, ...]:
    buffers: list[Parameter] = []
    for name, spec in zip(input_names, inputs, strict=True):
        space: Literal["constant", "device"] = (
            "constant" if prod(spec.shape) < CONSTANT_LIMIT else "device"
        )
        metal_type = METAL_TYPES[spec.dtype]
        buffers.append(Parameter(name, "input", metal_type, space, not spec.shape, len(buffers)))
        if not spec.shape:
            continue  # a scalar gets none of these, whatever the source names
        # Plain substrings, as in MLX: an input `a` also matches `data_shape`, and comments count.
        for kind, metal_type in (("shape", "int"), ("strides", "int64_t"), ("ndim", "int")):
            if f"{name}_{kind}" in source:
                buffers.append(
                    Parameter(
                        f"{name}_{kind}",
                        kind,  # type: ignore[arg-type]
                        metal_type,
                        "constant",
                        kind == "ndim",
                        len(buffers),
                    )
                )
    for name, dtype in zip(output_names, output_dtypes, strict=True):
        metal_type = METAL_TYPES[dtype]
        if atomic_outputs:
            metal_type = f"atomic<{metal_type}>"
        buffers.append(Parameter(name, "output", metal_type, "device", False, len(buffers)))
    if len(buffers) > MAX_BUFFERS:
        raise ValueError(
            f"[metal_kernel] The call needs {len(buffers)} buffers (inputs, outputs and the shape, "
            f"strides and ndim arguments that the source names); Metal has {MAX_BUFFERS}. "
            "Pack some of them into one array."
        )
    attributes = [
        Parameter(name, "attribute", metal_type, None, False, None)
        for name, metal_type in ATTRIBUTES.items()
        if name in source
    ]
    return (*buffers, *attributes)


def _explain_defects(
    name: str,
    kernel_name: str,
    output_names: Sequence[str],
    parameters: Sequence[Parameter],
) -> None:
    if not re.fullmatch(r"\w+", name, re.ASCII):
        raise MetalCompileError(
            f"error: '{kernel_name}' is not a Metal identifier: MLX makes it from name={name!r}, "
            "which may hold letters, digits and underscores only."
        )
    if "-" in kernel_name:
        raise MetalCompileError(
            f"error: '{kernel_name}' is not a Metal identifier. Before 0.32.4 MLX leaves the minus "
            "sign of a negative template integer in the kernel's name; pass the number in an "
            "input, or its negative as the template value."
        )
    shape_arguments = [p.name for p in parameters if p.kind in ("shape", "strides", "ndim")]
    has_attribute = any(p.kind == "attribute" for p in parameters)
    if len(output_names) > 1 and shape_arguments and not has_attribute:
        raise MetalCompileError(
            f"error: MLX misplaces the end of the parameter list of '{kernel_name}': it does so "
            f"when a kernel has several outputs ({', '.join(output_names)}), a shape argument "
            f"({', '.join(shape_arguments)}) and no attribute. Name an attribute, such as "
            "thread_position_in_grid, in the source."
        )


def _before_source(
    kernel_name: str,
    header: str,
    parameters: Sequence[Parameter],
    n_inputs: int,
    template: Sequence[tuple[str, TemplateValue]],
) -> str:
    """Everything up to the line on which the author's source begins.

    An output is followed by a comma iff its buffer index is below `n_inputs` + `n_outputs` - 1 or
    an attribute follows: MLX's own rule. `_explain_defects` refuses the cases where it is wrong.
    """
    text = header
    if template:
        kinds = [_template_kind(value) + " " + parameter for parameter, value in template]
        text += f"template <{', '.join(kinds)}>\n"
    text += f"[[kernel]] void {kernel_name}(\n"
    n_outputs = sum(p.kind == "output" for p in parameters)
    attributes = [p for p in parameters if p.kind == "attribute"]
    for p in parameters:
        if p.kind == "attribute":
            last = p is attributes[-1]
            text += f"  {p.metal_type} {p.name} [[{p.name}]]"
        else:
            assert p.buffer_index is not None
            last = p.kind == "output" and not (
                p.buffer_index < n_inputs + n_outputs - 1 or attributes
            )
            const = "" if p.kind == "output" else "const "
            mark = "&" if p.is_reference else "*"
            text += f"  {const}{p.address_space} {p.metal_type}{mark} {p.name}"
            text += f" [[buffer({p.buffer_index})]]"
        text += ") {\n" if last else ",\n"
    return text


def _instantiation(kernel_name: str, template: Sequence[tuple[str, TemplateValue]]) -> str:
    if not template:
        return ""
    instance = kernel_name + _template_arguments(template)
    return (
        f'\ntemplate [[host_name("{kernel_name}")]] [[kernel]] decltype({instance}) {instance};\n'
    )


def _template_arguments(template: Sequence[tuple[str, TemplateValue]]) -> str:
    values = [
        METAL_TYPES[value.name] if isinstance(value, Dtype) else str(int(value))
        for _, value in template
    ]
    return f"<{', '.join(values)}>"


def _template_kind(value: TemplateValue) -> str:
    return "typename" if isinstance(value, Dtype) else "bool" if isinstance(value, bool) else "int"
