"""How a problem and a time are written for people, in tables and file names."""

from __future__ import annotations

from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.uri import uri
from tqgen_kernels.codegen.variant import Config


def short_label(problem: Problem) -> str:
    """attend_dk128_dv128_..._4096: what decides the text, in short, and the context."""
    return f"{uri(problem, Config.of()).removeprefix('tqgen_')}_{problem.context}"


ROADS = {
    "mlx": "plain MLX",
    "sdpa": "dequantise, then MLX's attention",
    "fp16": "uncompressed cache",
    "affine": "mlx-lm's quantised cache",
}


def config_label(config: Config) -> str:
    """A kernel's tunables, or what a road without one of ours is called."""
    names = dict(config.values)
    if tuple(names) == ("road",):
        return ROADS.get(str(names["road"]), str(config))
    return str(config)


def format_time(seconds: float) -> str:
    """For people: 3.14 us, 31.4 ms."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"
