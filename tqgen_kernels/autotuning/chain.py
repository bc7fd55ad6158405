"""Launches of which each reads what the one before it wrote.

A GPU may run independent launches at once, so that n of them say little about one; in a decode
step each waits for the one before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from tqgen_kernels.execution import registry

Inputs = Mapping[str, Any]
Step = Callable[[Inputs], mx.array]


def chain(step: Step, copies: Sequence[Inputs], n: int) -> mx.array:
    """The last output, lazy, of n launches over `copies` in turn.

    An output serves as the next launch's `queries` where it has their shape; else nothing of it is
    used, but the next launch waits for it: that costs a small launch more, the same for every
    candidate.
    """
    out = step(copies[0])
    for i in range(1, n):
        inputs = copies[i % len(copies)]
        queries = inputs.get("queries")
        if queries is not None and (out.size, out.dtype) == (queries.size, queries.dtype):
            inputs = {**inputs, "queries": out.reshape(queries.shape)}
        else:
            name = "params" if "params" in inputs else "queries"
            inputs = {**inputs, name: after(inputs[name], out)}
        out = step(inputs)
    return out


def after(array: mx.array, output: mx.array) -> mx.array:
    """`array`, of no more bytes than `output`, unchanged, but not before `output` is there."""
    first = output.reshape(-1)[: array.nbytes // output.itemsize].view(array.dtype)
    return mx.where(mx.array(False), first.reshape(array.shape), array)


def launcher(step: Step, copies: Sequence[Inputs], *, eager: bool) -> Callable[[int], float]:
    """Seconds that n launches take together. Building the graph is not timed, evaluating it is;
    eager: the step computes as it is called, and that is.

    Raises InvalidVariant for what the device says.
    """

    def launch(n: int) -> float:
        start = time.perf_counter()
        try:
            last = chain(step, copies, n)
            if not eager:
                start = time.perf_counter()
            mx.eval(last)
        except RuntimeError as error:
            raise registry.failure(error) from error
        return time.perf_counter() - start

    return launch
