from __future__ import annotations

from pathlib import Path

import pytest

from tqgen_kernels.tuning.database.folder import Database


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def database(tmp_path: Path, notices: list[str]) -> Database:
    return Database(tmp_path / "tuned", notice=notices.append)
