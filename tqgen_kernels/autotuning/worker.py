"""python -m tqgen_kernels.autotuning.worker BACKEND: compiles and verifies what it is asked to.

`tuning/search/workers.py` starts it: a line a candidate on standard input, a line a verdict on
what was standard output. Whatever else prints goes to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from queue import SimpleQueue
from typing import BinaryIO

from tqgen_kernels.tuning.search.runner import InvalidVariant
from tqgen_kernels.tuning.search.workers import READY, Verdict, decode_job, encode_verdict


def main(backend: str) -> None:
    """Answers until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, lines), daemon=True).start()

    import mlx.core as mx

    from tqgen_kernels import backends
    from tqgen_kernels.execution import registry

    backends.load(backend)
    registry.kernel  # noqa: B018, imported before it says that it is ready
    mx.eval(mx.zeros(1) + 1)  # a context on the device
    _write(answers, READY.encode() + b"\n")
    while True:
        _write(answers, encode_verdict(verdict(lines.get(), backend)))


def verdict(line: bytes, backend: str) -> Verdict:
    """Compiled, launched once and compared with the reference."""
    from tqgen_kernels.execution import registry

    try:
        problem, config = decode_job(line)
        return registry.verify(registry.compile(problem, config, backend))
    except InvalidVariant as error:
        return error
    except (RuntimeError, ValueError) as error:
        return registry.failure(error)


def _read(source: BinaryIO, lines: SimpleQueue[bytes]) -> None:
    """Ends the process with its input, even while a kernel hangs."""
    for line in source:
        lines.put(line)
    os._exit(0)


def _write(target: BinaryIO, line: bytes) -> None:
    target.write(line)
    target.flush()


if __name__ == "__main__":
    main(sys.argv[1])
