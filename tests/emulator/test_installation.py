"""`install` and `uninstall`: what they replace, and that they put it back."""

from collections.abc import Iterator

import mlx.core as mx
import pytest

from tqgen_kernels import emulator
from tqgen_kernels.emulator.installation import is_installed

pytestmark = pytest.mark.skipif(mx.metal.is_available(), reason="install does nothing on a Mac")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    emulator.uninstall()


def double_on_metal(x: mx.array) -> mx.array:
    """As an author writes it: nothing here knows of the emulator."""
    kernel = mx.fast.metal_kernel(
        name="twice",
        input_names=["x"],
        output_names=["out"],
        source="uint i = thread_position_in_grid.x; out[i] = 2 * x[i];",
    )
    return kernel(  # type: ignore[operator]
        inputs=[x],
        grid=(x.size, 1, 1),
        threadgroup=(32, 1, 1),
        output_shapes=[x.shape],
        output_dtypes=[x.dtype],
    )[0]


def test_kernels_run_after_install_and_not_after_uninstall() -> None:
    original = mx.fast.metal_kernel
    with pytest.raises(RuntimeError, match="No Metal"):
        double_on_metal(mx.arange(5))
    assert emulator.install()
    assert double_on_metal(mx.arange(5)).tolist() == [0, 2, 4, 6, 8]
    assert not mx.metal.is_available()
    emulator.uninstall()
    assert mx.fast.metal_kernel is original


def test_both_may_be_called_again() -> None:
    original = mx.fast.metal_kernel
    emulator.uninstall()
    emulator.install()
    emulator.install()
    assert is_installed()
    emulator.uninstall()
    assert mx.fast.metal_kernel is original
    emulator.uninstall()
    assert not is_installed()


def test_a_compiled_function_may_call_a_kernel() -> None:
    emulator.install()

    @mx.compile
    def quadruple(x: mx.array) -> mx.array:
        return double_on_metal(x) * 2

    assert quadruple(mx.arange(3)).tolist() == [0, 4, 8]


def test_guards_answer_as_on_a_mac_only_when_asked() -> None:
    emulator.install()
    assert not mx.is_available(mx.gpu)
    emulator.install(as_metal=True)  # adds to what is installed
    assert mx.metal.is_available()
    assert mx.is_available(mx.gpu)
    assert mx.default_device() == mx.gpu
    assert mx.device_info()["max_recommended_working_set_size"] > 0
    emulator.uninstall()
    assert not mx.metal.is_available()
    assert not mx.is_available(mx.gpu)
    assert mx.default_device() == mx.cpu


def test_streams_and_devices_follow_the_program() -> None:
    emulator.install(as_metal=True)
    gpu_stream = mx.new_stream(mx.gpu)
    with mx.stream(mx.cpu):
        assert mx.default_device() == mx.cpu
        with mx.stream(gpu_stream):
            assert mx.default_device() == mx.gpu
            assert (mx.arange(3) + 1).tolist() == [1, 2, 3]
        assert mx.default_device() == mx.cpu
    assert mx.default_device() == mx.gpu
    mx.set_default_device(mx.cpu)
    assert mx.default_device() == mx.cpu
    mx.set_default_device(mx.gpu)
    assert mx.default_device() == mx.gpu
    assert (mx.ones((2,)) * 2).tolist() == [2.0, 2.0]
    mx.eval(mx.zeros((1,), stream=mx.default_stream(mx.gpu)))
