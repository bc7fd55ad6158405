"""Loads compiled kernels and launches them."""

import ctypes
import os
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.emulator.build import runtime_library
from tqgen_kernels.emulator.compiler import Compiler
from tqgen_kernels.emulator.options import ORDERS, Options

# Launches share the runtime's global state.
_lock = threading.RLock()

_FINER_CELLS = 2  # status: the detectors want to know of smaller accesses; launch again


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("results", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("element", ctypes.c_uint32),
        ("writable", ctypes.c_uint32),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("entry", ctypes.c_void_p),
        ("range", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("text_begin", ctypes.c_uint64),
        ("text_end", ctypes.c_uint64),
        ("timeout", ctypes.c_double),
        ("n_buffers", ctypes.c_uint32),
        ("grid", ctypes.c_uint32 * 3),
        ("group", ctypes.c_uint32 * 3),
        ("checked", ctypes.c_uint32),
        ("order", ctypes.c_uint32),
        ("seed", ctypes.c_uint32),
        ("device_grain", ctypes.c_uint32),
        ("threadgroup_grain", ctypes.c_uint32),
    )


class RawFinding(ctypes.Structure):
    """`Finding` of runtime.h."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("detail", ctypes.c_uint32),
        ("soft", ctypes.c_uint32),
        ("space", ctypes.c_uint32),
        ("pc", ctypes.c_uint64),
        ("other_pc", ctypes.c_uint64),
        ("line", ctypes.c_uint32),
        ("other_line", ctypes.c_uint32),
        ("file", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_char_p),
        ("index", ctypes.c_int64),
        ("slot", ctypes.c_int64),
        ("thread", ctypes.c_uint32 * 3),
        ("group", ctypes.c_uint32 * 3),
        ("other_thread", ctypes.c_uint32),
        ("other_group", ctypes.c_uint32),
        ("extent", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Memory:
    """One buffer argument: its bytes at first (None: uninitialised) and where they end up."""

    data: NDArray[np.uint8] | None
    results: NDArray[np.uint8] | None
    nbytes: int
    offset: int
    itemsize: int


@dataclass(frozen=True, slots=True)
class Library:
    """A compiled kernel in this process."""

    path: Path
    handle: ctypes.CDLL
    entry: int
    range: int | None  # None: its threads wait for one another
    base: int  # address at which the file's address 0 lies
    text: tuple[int, int]
    grains: list[int]  # log2 of the least accesses seen to device and threadgroup memory


@cache
def _runtime(compiler: Compiler) -> ctypes.CDLL:
    for name in ("libm.so.6", "libpthread.so.0") if sys.platform == "linux" else ():
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue  # part of libc
    # Elsewhere a kernel names the runtime that it was linked with.
    scope = ctypes.RTLD_GLOBAL if sys.platform == "darwin" else ctypes.RTLD_LOCAL
    runtime = ctypes.CDLL(str(runtime_library(compiler)), mode=scope)
    runtime.tq_launch.argtypes = [ctypes.POINTER(_Launch)]
    runtime.tq_finding.restype = ctypes.POINTER(RawFinding)
    return runtime


def load(compiler: Compiler, path: Path) -> Library:
    """Loads the library of a kernel; the runtime it calls is loaded first."""
    with _lock:
        _runtime(compiler)
        handle = ctypes.CDLL(str(path))
    contents = path.read_bytes()
    entry = ctypes.cast(handle.tq_entry, ctypes.c_void_p).value or 0
    whole = ctypes.cast(handle.tq_range, ctypes.c_void_p).value
    waits = any(
        name in contents
        for name in (b"tq_simd_wait", b"tq_simdgroup_barrier", b"tq_threadgroup_barrier")
    )
    base, text = _layout(contents, entry)
    return Library(path, handle, entry, None if waits else whole, base, text, [3, 2])


def _layout(contents: bytes, entry: int) -> tuple[int, tuple[int, int]]:
    """Load address and extent of machine code, from the program headers of an ELF file."""
    if contents[:4] != b"\x7fELF":
        return 0, (0, 0)
    (offset,) = struct.unpack_from("<Q", contents, 32)
    size, count = struct.unpack_from("<HH", contents, 54)
    for i in range(count):
        kind, flags, _, address, _, _, extent = struct.unpack_from(
            "<IIQQQQQ", contents, offset + i * size
        )
        if kind == 1 and flags & 1:
            # Pages keep their place in the file, so the entry's page tells where the file lies.
            base = _base_of(entry)
            return base, (base + address, base + address + extent)
    return 0, (0, 0)


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _base_of(address: int) -> int:
    info = _DlInfo()
    ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return info.base or 0


def launch(
    compiler: Compiler,
    library: Library,
    memory: Sequence[Memory],
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    options: Options,
) -> list[RawFinding]:
    """Runs a kernel; `memory` holds its results unless a finding stopped it."""
    buffers = (_Buffer * max(len(memory), 1))()
    for buffer, m in zip(buffers, memory, strict=False):
        buffer.data = m.data.ctypes.data if m.data is not None else None
        buffer.results = m.results.ctypes.data if m.results is not None else None
        buffer.bytes = m.nbytes
        buffer.offset = m.offset
        buffer.element = m.itemsize
        buffer.writable = m.results is not None
    what = _Launch(
        entry=library.entry,
        range=library.range,
        buffers=buffers,
        text_begin=library.text[0],
        text_end=library.text[1],
        timeout=options.timeout or 0.0,
        n_buffers=len(memory),
        grid=grid,
        group=threadgroup,
        checked=options.checks == "full",
        order=ORDERS.index(options.order),
        seed=options.seed & 0xFFFFFFFF,
    )
    with _lock:
        runtime = _runtime(compiler)
        while True:
            what.device_grain, what.threadgroup_grain = library.grains
            status = runtime.tq_launch(ctypes.byref(what))
            if status != _FINER_CELLS:
                break
            library.grains[:] = what.device_grain, what.threadgroup_grain
        if status:
            raise MemoryError(
                f"The emulator could not map memory for a launch (process {os.getpid()}); "
                "is the address space limited (ulimit -v)?"
            )
        count = runtime.tq_findings()
        return [RawFinding.from_buffer_copy(runtime.tq_finding(i).contents) for i in range(count)]
