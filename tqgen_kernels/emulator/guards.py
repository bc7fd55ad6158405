"""What MLX would answer on a Mac, for code that asks for a GPU before it uses its kernels."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import mlx.core as mx

# Functions that take a device or a stream and cannot be given a GPU where there is none.
STREAM_FUNCTIONS = (
    "default_stream",
    "new_stream",
    "new_thread_local_stream",
    "new_thread_unsafe_stream",
)


class _Believed:
    """What the program takes for the default device, and for streams of the GPU."""

    def __init__(self) -> None:
        self.device = mx.Device(mx.gpu)
        self.gpu_streams: list[Any] = []

    def device_of(self, stream_or_device: Any) -> mx.Device:
        if _is_gpu(stream_or_device) or stream_or_device in self.gpu_streams:
            return mx.Device(mx.gpu)
        return mx.Device(mx.cpu)


def answers_of_a_mac() -> list[tuple[Any, str, Any]]:
    """(module, name, replacement) of MLX's questions about devices."""
    current = _Believed()
    original_stream, original_info = mx.stream, mx.device_info
    original_set = mx.set_default_device

    class stream:  # noqa: N801 - stands in for mx.stream
        """As ``mx.stream``; the default device follows it, as on a Mac."""

        def __init__(self, s: Any) -> None:
            self.entered = current.device_of(s)
            self.inner = original_stream(_on_cpu(s))

        def __enter__(self) -> Any:
            self.before, current.device = current.device, self.entered
            return self.inner.__enter__()

        def __exit__(
            self,
            kind: type[BaseException] | None,
            error: BaseException | None,
            trace: TracebackType | None,
        ) -> Any:
            current.device = self.before
            return self.inner.__exit__(kind, error, trace)

    def set_default_device(device: Any) -> None:
        original_set(_on_cpu(device))
        current.device = current.device_of(device)

    def device_info(*device: Any) -> dict[str, Any]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {
            "memory_size": memory,
            "max_buffer_length": memory,
            "max_recommended_working_set_size": memory,
            **original_info(*(_on_cpu(d) for d in device)),
        }

    def with_cpu(make_stream: Any) -> Any:
        def call(device: Any) -> Any:
            made = make_stream(_on_cpu(device))
            if _is_gpu(device):
                current.gpu_streams.append(made)
            return made

        return call

    return [
        (mx.metal, "is_available", lambda: True),
        (mx, "is_available", lambda device: True),
        (mx, "default_device", lambda: current.device),
        (mx, "set_default_device", set_default_device),
        (mx, "stream", stream),
        (mx, "device_info", device_info),
        *((mx, name, with_cpu(getattr(mx, name))) for name in STREAM_FUNCTIONS),
    ]


def _is_gpu(device: Any) -> bool:
    return isinstance(device, mx.Device | mx.DeviceType) and device == mx.gpu


def _on_cpu(device: Any) -> Any:
    return mx.Device(mx.cpu) if _is_gpu(device) else device
