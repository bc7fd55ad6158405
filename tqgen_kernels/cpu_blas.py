"""MLX's float32 matrix products on a Linux CPU, done by the OpenBLAS that NumPy brings.

MLX's Linux wheel for the CPU links the reference BLAS, NumPy's wheel carries OpenBLAS: more than
ten times as fast. MLX calls one function, cblas_sgemm. A library with that function alone, put
into the global scope of the process before MLX is loaded, is what the dynamic loader then binds
the call to. The command line and the tests do this; importing the package never does.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

VARIABLE = "TQGEN_CPU_BLAS"  # "mlx" leaves MLX's own in place

# MLX counts in int, NumPy's OpenBLAS in 64 bits.
SOURCE = """
#include <stdint.h>
typedef void (*Sgemm)(int, int, int, int64_t, int64_t, int64_t, float, const float *, int64_t,
                      const float *, int64_t, float, float *, int64_t);
static Sgemm sgemm;
void tqgen_set_sgemm(void *function) { sgemm = (Sgemm)function; }
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                 int lda, const float *b, int ldb, float beta, float *c, int ldc) {
  sgemm(order, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""

_lent = False


def lend() -> str | None:
    """Lets MLX use NumPy's OpenBLAS in this process. Returns None, or why not.

    In one thread unless OPENBLAS_NUM_THREADS is set: a decode step has many small products, which
    several threads on busy cores slow down.
    """
    global _lent
    if _lent:
        return None
    reason = _hindrance()
    if reason is not None:
        return reason
    openblas = _numpys_openblas()
    if openblas is None:
        return "this NumPy carries no OpenBLAS"
    try:
        bridge = ctypes.CDLL(str(_bridge()), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(openblas))
        sgemm = library.scipy_cblas_sgemm64_
        if "OPENBLAS_NUM_THREADS" not in os.environ:
            library.scipy_openblas_set_num_threads64_(1)
    except (OSError, AttributeError) as error:
        return str(error)
    bridge.tqgen_set_sgemm(ctypes.cast(sgemm, ctypes.c_void_p))
    _lent = True
    return None


def _hindrance() -> str | None:
    if os.environ.get(VARIABLE) == "mlx":
        return f"{VARIABLE}=mlx"
    if platform.system() != "Linux":
        return "only MLX's Linux wheel needs it"
    try:
        metadata.version("mlx-cpu")
    except metadata.PackageNotFoundError:
        return "MLX does not compute on the CPU"
    if "blas" in os.environ.get("LD_PRELOAD", ""):
        return "LD_PRELOAD brings a BLAS"
    if "mlx.core" in sys.modules:
        return "MLX is loaded already"
    return None


def _numpys_openblas() -> Path | None:
    spec = util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return None
    libraries = Path(spec.origin).parent.parent / "numpy.libs"
    return next(iter(sorted(libraries.glob("libscipy_openblas64_*.so"))), None)


def _bridge() -> Path:
    """The compiled SOURCE, in the cache folder. Raises OSError."""
    from tqgen_kernels.files import cache_dir
    from tqgen_kernels.kept import kept

    name = hashlib.sha256(f"{platform.machine()}{SOURCE}".encode()).hexdigest()[:16]

    def make(out: Path) -> None:
        source = out.with_name("bridge.c")
        source.write_text(SOURCE)
        command = [*_compiler(), "-O2", "-shared", "-fPIC", "-o", str(out), str(source)]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, errors="replace"
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise OSError(f"{Path(command[0]).name} cannot compile the bridge: {last}")

    return kept(cache_dir() / "blas" / name, "bridge.so", make)


def _compiler() -> list[str]:
    if util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return [found]
    raise OSError("no C compiler: pip install 'tqgen-kernels[emulator]' brings one")
