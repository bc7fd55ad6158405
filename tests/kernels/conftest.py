"""Our kernels have no soft findings either: a barrier with the wrong mem flag fails a test."""

from collections.abc import Iterator

import pytest

from tqgen_kernels import emulator


@pytest.fixture(autouse=True)
def _soft_findings_count() -> Iterator[None]:
    with emulator.options(strict=True):
        yield
