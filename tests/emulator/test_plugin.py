"""`pytest --metal-emulator` on a small project that knows nothing of it."""

import mlx.core as mx
import pytest

from tqgen_kernels.emulator import cache

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.skipif(mx.metal.is_available(), reason="the plugin does nothing on a Mac")

KERNELS = """
    import mlx.core as mx

    # Built when the module is imported, as many projects do.
    reverse_kernel = mx.fast.metal_kernel(
        name="reverse",
        input_names=["x"],
        output_names=["out"],
        source='''
            threadgroup float s[32];
            uint i = thread_position_in_threadgroup.x;
            s[i] = x[i];
            BARRIER;
            out[i] = s[31 - i];
        ''',
        header="#define BARRIER %s\\n",
    )
"""
CACHE = str(cache.directory().parent)  # pytester changes HOME
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup)"
TESTS = """
    import mlx.core as mx
    import pytest
    from kernels import reverse_kernel

    @pytest.mark.skipif(not mx.metal.is_available(), reason="needs Metal")
    def test_reverse():
        (out,) = reverse_kernel(
            inputs=[mx.arange(32.0)], grid=(32, 1, 1), threadgroup=(32, 1, 1),
            output_shapes=[(32,)], output_dtypes=[mx.float32],
        )
        assert out.tolist() == list(range(31, -1, -1))

    def test_without_a_kernel():
        assert (mx.arange(2) + 1).tolist() == [1, 2]
"""


def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, barrier: str, *arguments: str
) -> pytest.RunResult:
    pytester.makepyfile(kernels=KERNELS % barrier, test_kernels=TESTS)
    # Only the plugin itself, once, whether or not this package is installed with its entry point.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("TQGEN_CACHE_DIR", CACHE)
    return pytester.runpytest_subprocess(
        "-p", "tqgen_kernels.emulator.pytest_plugin", "-p", "no:cacheprovider", *arguments
    )


def test_skipped_without_the_flag(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pytester, monkeypatch, BARRIER).assert_outcomes(passed=1, skipped=1)


def test_runs_with_the_flag(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(
        pytester, monkeypatch, BARRIER, "--metal-emulator", "--metal-emulator-order=random"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["metal-emulator: checks=full, order=random, strict=False"])


def test_a_race_fails_the_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(pytester, monkeypatch, "", "--metal-emulator")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*MetalFault: reverse:6: error: *"])


def test_strict_fails_for_a_soft_finding(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = "threadgroup_barrier(mem_flags::mem_none)"
    run(pytester, monkeypatch, weak, "--metal-emulator").assert_outcomes(passed=2)
    result = run(pytester, monkeypatch, weak, "--metal-emulator", "--metal-emulator-strict")
    result.assert_outcomes(passed=1, failed=1)


def test_guards_can_be_left_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(pytester, monkeypatch, BARRIER, "--metal-emulator", "--metal-emulator-no-guards")
    result.assert_outcomes(passed=1, skipped=1)
