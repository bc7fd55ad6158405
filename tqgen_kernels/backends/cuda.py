"""NVIDIA GPUs, through mx.fast.cuda_kernel: the Metal text unchanged, between headers of ours."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from tqgen_kernels.backends import metal_call
from tqgen_kernels.codegen.problem import family_of
from tqgen_kernels.codegen.variant import Launch, Variant
from tqgen_kernels.files import cache_dir, write_atomically

if TYPE_CHECKING:
    from tqgen_kernels.backends import Bound, Launcher

NAME = "cuda"
LAZY = True

_HEADERS = (
    "language",
    "vectors",
    "math",
    "simd",
    "atomics",
    "matrix",
    "fragments",
    "address_spaces",
)
# What a text has to name to need a header; the others are always needed.
_ONLY_FOR = {"atomics": "atomic", "matrix": "simdgroup_matrix", "fragments": "FRAGMENT_"}
_RESIDENT = re.compile(r"#define RESIDENT_THREADGROUPS (\d+)")
_MAX_BLOCKS = (2**31 - 1, 65535, 65535)  # CUDA's limits of a grid's x, y, z
Dims = tuple[int, int, int]


def is_available() -> bool:
    """Whether MLX here is its CUDA build and sees a GPU."""
    return bool(mx.cuda.is_available())


@dataclass(frozen=True)
class CudaText:
    """What mx.fast.cuda_kernel takes. The name carries a hash of all text: MLX keeps compiled
    kernels on disk by name alone."""

    name: str
    header: str
    source: str


def cuda_text(variant: Variant, threadgroup: Dims) -> CudaText:
    """The variant for one threadgroup size, which bounds its registers and folds its indices."""
    threads = threadgroup[0] * threadgroup[1] * threadgroup[2]
    ours = _metal_on_cuda(variant.header + variant.source)
    resident = _RESIDENT.search(variant.header)
    header = (
        f"#define THREADS_OF_A_THREADGROUP {threads}\n"
        f"#define THREADGROUPS_AT_ONCE {resident[1] if resident else 1}\n{ours}\n{variant.header}"
    )
    source = _attributes(variant.source, threadgroup) + variant.source
    digest = hashlib.sha256((header + "\0" + source).encode()).hexdigest()
    return CudaText(f"tqgen_{family_of(variant.problem)}_{digest[:16]}", header, source)


def by_reference(text: CudaText) -> CudaText:
    """Includes of files that hold the text: MLX copies its strings at every launch, 50 KB of them
    for a decode step. The text itself where the cache directory cannot be written."""
    folder = cache_dir() / "cuda"
    paths = [folder / f"{text.name}.{part}.h" for part in ("header", "body")]
    try:
        for path, content in zip(paths, (text.header, text.source), strict=True):
            data = content.encode()
            if not path.is_file() or path.read_bytes() != data:
                write_atomically(path, data)
    except OSError:
        return text
    header, source = (f'#include "{path.as_posix()}"\n' for path in paths)
    return CudaText(text.name, header, source)


def build(variant: Variant) -> Launcher:
    """A launcher of the variant. MLX compiles at the first launch, once a source.

    A launch raises ValueError for a grid that is no multiple of its threadgroup (CUDA launches
    full blocks only), or has more blocks than CUDA can launch.
    """

    @lru_cache(maxsize=8)
    def kernel(threadgroup: Dims) -> Any:
        text = by_reference(cuda_text(variant, threadgroup))
        return mx.fast.cuda_kernel(
            name=text.name,
            input_names=list(variant.input_names),
            output_names=list(variant.output_names),
            source=text.source,
            header=text.header,
        )

    def at(geometry: Launch) -> Bound:
        _check_grid(geometry)
        return metal_call.bound(kernel(geometry.threadgroup), metal_call.arguments(geometry))

    return at


def _check_grid(geometry: Launch) -> None:
    for axis, size, group, most in zip(
        "xyz", geometry.grid, geometry.threadgroup, _MAX_BLOCKS, strict=True
    ):
        if size % group:
            raise ValueError(
                f"grid {axis} = {size} is no multiple of the threadgroup's {group}: "
                "CUDA launches full blocks only."
            )
        if size // group > most:
            raise ValueError(
                f"grid {axis} has {size // group} threadgroups and CUDA allows {most}: "
                "use a smaller batch."
            )


def _metal_on_cuda(text: str) -> str:
    """The headers that the text needs."""
    wanted = (name for name in _HEADERS if _ONLY_FOR.get(name, "") in text)
    return "\n".join(map(_header, wanted))


@lru_cache(maxsize=len(_HEADERS))
def _header(name: str) -> str:
    room = Path(__file__).parent / "include" / "metal_on_cuda"
    return (room / f"{name}.h").read_text(encoding="utf-8")


def _attributes(source: str, threadgroup: Dims) -> str:
    """Definitions of the thread attributes that the source names, by MLX's substring rule."""
    x, y, z = threadgroup
    if y == z == 1:
        index = "threadIdx.x"
    elif z == 1:
        index = f"threadIdx.y * {x}u + threadIdx.x"
    else:
        index = f"(threadIdx.z * {y}u + threadIdx.y) * {x}u + threadIdx.x"
    simdgroups = f"{-(-x * y * z // 32)}u"
    size = f"uint3({x}u, {y}u, {z}u)"
    grid = f"uint3(gridDim.x * {x}u, gridDim.y * {y}u, gridDim.z * {z}u)"
    place = ", ".join(
        f"blockIdx.{a} * {n}u + threadIdx.{a}" for a, n in zip("xyz", threadgroup, strict=True)
    )
    values = {
        "dispatch_quadgroups_per_threadgroup": f"{-(-x * y * z // 4)}u",
        "dispatch_simdgroups_per_threadgroup": simdgroups,
        "dispatch_threads_per_threadgroup": size,
        "grid_origin": "uint3(0u)",
        "grid_size": grid,
        "quadgroup_index_in_threadgroup": f"({index}) / 4u",
        "quadgroups_per_threadgroup": f"{-(-x * y * z // 4)}u",
        "simdgroup_index_in_threadgroup": f"({index}) / 32u",
        "simdgroups_per_threadgroup": simdgroups,
        "thread_execution_width": "32u",
        "thread_index_in_quadgroup": f"({index}) % 4u",
        "thread_index_in_simdgroup": f"({index}) % 32u",
        "thread_index_in_threadgroup": index,
        "thread_position_in_grid": f"uint3({place})",
        "thread_position_in_threadgroup": "uint3(threadIdx.x, threadIdx.y, threadIdx.z)",
        "threadgroup_position_in_grid": "uint3(blockIdx.x, blockIdx.y, blockIdx.z)",
        "threadgroups_per_grid": "uint3(gridDim.x, gridDim.y, gridDim.z)",
        "threads_per_grid": grid,
        "threads_per_simdgroup": "32u",
        "threads_per_threadgroup": size,
    }
    return "".join(
        f"const auto {name} = {value};\n" for name, value in values.items() if name in source
    )
