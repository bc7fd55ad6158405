"""A problem's short name, for tables and file names."""

from __future__ import annotations

from tqgen_kernels.codegen.problem import Problem
from tqgen_kernels.codegen.uri import uri
from tqgen_kernels.codegen.variant import Config


def short_label(problem: Problem) -> str:
    """attend_dk128_dv128_..._4096: what decides the text, in short, and the context."""
    return f"{uri(problem, Config.of()).removeprefix('tqgen_')}_{problem.context}"
