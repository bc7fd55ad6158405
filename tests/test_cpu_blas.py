"""NumPy's OpenBLAS under MLX, each case in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="MLX's Linux wheel only")


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_PRELOAD": "", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_mlx_calls_it_and_gets_the_right_products(tmp_path: Path) -> None:
    """`cblas_sgemm` seen from the process is ours, and every kind of product agrees with NumPy."""
    printed = run(
        "import ctypes\n"
        "from tqgen_kernels import cpu_blas\n"
        "assert cpu_blas.lend() is None\n"
        "assert cpu_blas.lend() is None\n"
        "ctypes.CDLL(None).tqgen_set_sgemm  # in the global scope\n"
        "import mlx.core as mx, numpy as np\n"
        "rng = np.random.default_rng(0)\n"
        "for m, n, k in ((1, 1, 1), (1, 300, 70), (65, 33, 128), (200, 5, 300)):\n"
        "    a = rng.standard_normal((2, m, k), np.float32)\n"
        "    b = rng.standard_normal((2, k, n), np.float32)\n"
        "    c = np.array(mx.array(a) @ mx.array(b))\n"
        "    assert np.allclose(c, a.astype(float) @ b, atol=1e-4), (m, n, k)\n"
        "    t = np.array(mx.array(b).swapaxes(1, 2) @ mx.array(a).swapaxes(1, 2))\n"
        "    assert np.allclose(t, c.swapaxes(1, 2), atol=1e-4), (m, n, k)\n"
        "a, b = rng.standard_normal((2, 256, 256), np.float32)\n"
        "same = np.array_equal(np.array(mx.array(a) @ mx.array(b)), a @ b)\n"
        "print('bit for bit as NumPy:', same)",
        TQGEN_CACHE_DIR=str(tmp_path),
    )
    # MLX's own BLAS adds in another order: only the same library gives the same bits.
    assert printed == "bit for bit as NumPy: True"
    assert len(list((tmp_path / "blas").glob("*"))) == 1


@pytest.mark.parametrize(
    ("before", "environment", "reason"),
    [
        ("import mlx.core", {}, "loaded already"),
        ("", {"TQGEN_CPU_BLAS": "mlx"}, "TQGEN_CPU_BLAS=mlx"),
        ("", {"TQGEN_CACHE_DIR": "/dev/null/folder"}, "Not a directory"),
    ],
)
def test_it_says_why_not(before: str, environment: dict[str, str], reason: str) -> None:
    code = f"{before}\nfrom tqgen_kernels import cpu_blas\nprint(cpu_blas.lend())"
    assert reason in run(code, **environment)


def test_a_missing_compiler_is_a_reason(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['ziglang'] = None\n"
        "from tqgen_kernels import cpu_blas\n"
        "cpu_blas.util.find_spec = (lambda find: lambda n: None if n == 'ziglang' else find(n))"
        "(cpu_blas.util.find_spec)\n"
        "print(cpu_blas.lend())"
    )
    printed = run(code, TQGEN_CACHE_DIR=str(tmp_path), PATH="/nowhere")
    assert "tqgen-kernels[emulator]" in printed


def test_importing_the_package_changes_nothing() -> None:
    code = (
        "import ctypes, tqgen_kernels\n"
        "from tqgen_kernels import TurboQuantKVCache\n"
        "print(hasattr(ctypes.CDLL(None), 'tqgen_set_sgemm'))"
    )
    assert run(code) == "False"
