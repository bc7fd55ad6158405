"""Put the emulator in place of ``mx.fast.metal_kernel`` for the whole process, and take it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Installed:
    """What was replaced: (module, name, original), in order."""

    replaced: list[tuple[Any, str, Any]] = field(default_factory=list)
    as_metal: bool = False


_installed = _Installed()


def is_installed() -> bool:
    return bool(_installed.replaced)


def install(*, as_metal: bool = False) -> bool:
    """Replace ``mx.fast.metal_kernel`` by the emulator where there is no Metal.

    Call it before the code under test is imported: kernels are often built at import, and
    ``from mlx.core.fast import metal_kernel`` keeps what it found. ``mx.compile`` is switched off
    with it, since the emulator runs at the call. Calling it again changes nothing, except that
    `as_metal` is added.

    as_metal: also answer the guards by which code asks for a GPU, as a Mac would:
        ``mx.metal.is_available()``, ``mx.is_available(mx.gpu)``, ``mx.default_device() == mx.gpu``.
        Streams of the GPU become streams of the CPU. Operations of MLX itself still run on the
        CPU, and refuse ``stream=mx.gpu``.

    Returns whether the emulator is in place: False on a machine with Metal, where nothing is done.
    """
    import mlx.core as mx

    if not is_installed() and mx.metal.is_available():
        return False
    if not is_installed():
        from tqgen_kernels import emulator

        _replace(mx.fast, "metal_kernel", emulator.metal_kernel)
        mx.disable_compile()
    if as_metal and not _installed.as_metal:
        from tqgen_kernels.emulator.guards import answers_of_a_mac

        for module, name, answer in answers_of_a_mac():
            _replace(module, name, answer)
        _installed.as_metal = True
    return True


def uninstall() -> None:
    """Put everything back that `install` replaced. Kernels already built stay emulated."""
    if not is_installed():
        return
    import mlx.core as mx

    while _installed.replaced:
        module, name, original = _installed.replaced.pop()
        setattr(module, name, original)
    _installed.as_metal = False
    mx.enable_compile()


def _replace(module: Any, name: str, replacement: Any) -> None:
    _installed.replaced.append((module, name, getattr(module, name)))
    setattr(module, name, replacement)
