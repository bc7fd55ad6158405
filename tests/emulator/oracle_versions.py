"""Compare `metal_source` with every MLX version that the package supports.

    python -m tests.emulator.oracle_versions [VERSION ...]

Makes one virtual environment a version in the folder for temporary files (kept for the next run)
and installs `mlx[cpu]==VERSION` into it, so it needs a package index. Linux only. The first run
takes a minute.
"""

import json
import random
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.emulator.oracle import random_case
from tests.emulator.test_signature import generate
from tqgen_kernels.emulator.faults import MetalCompileError

VERSIONS = ("0.32.0", "0.32.1", "0.32.2", "0.32.3", "0.32.4")
CASES = 500


def interpreter(version: str) -> Path:
    """The Python of an environment that holds this MLX."""
    folder = Path(tempfile.gettempdir()) / f"mlx-oracle-{version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-q", f"mlx[cpu]=={version}"]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return python


def main(versions: tuple[str, ...]) -> int:
    rng = random.Random(2)
    cases = [random_case(rng) for _ in range(CASES)]
    oracle = Path(__file__).with_name("oracle.py")
    failed = 0
    for version in versions:
        run = subprocess.run(
            [interpreter(version), oracle],
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            check=True,
        )
        found, answers = json.loads(run.stdout)
        assert found == version
        equal = refused = different = 0
        for case, (name, text) in zip(cases, answers, strict=True):
            rules = tuple(int(part) for part in version.split("."))
            try:
                generated = generate(case, mlx_version=rules)
            except MetalCompileError:
                refused += 1
                if text.count("]]) {\n") > 1:  # MLX ended the parameter list too early
                    continue
                # Else only the minus sign in the name is wrong: the rest is as in 0.32.4.
                generated = generate(case)
                different += "-" not in name or generated.text != text.replace(
                    name, name.replace("-", "_")
                )
                continue
            if (generated.kernel_name, generated.text) == (name, text):
                equal += 1
            else:
                different += 1
        failed += different
        sys.stdout.write(
            f"mlx {version}: {equal} equal, {refused} cannot compile, {different} different\n"
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:]) or VERSIONS))
