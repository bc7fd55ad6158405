"""Settings of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tqgen_kernels import cpu_blas

cpu_blas.lend()  # before a test imports MLX: models run many times faster on a CPU

# No timed tests: a busy machine must not fail one. The same examples every time, so that a
# failure on one machine is one on every other.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def demo_model_path() -> Path:
    """The demo model (SmolLM2-135M-Instruct) for `mlx_lm.load`; converted once per user."""
    from tqgen_kernels.demo.model import demo_model

    return demo_model(say=lambda text: None, progress=lambda what, done, total: None)


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers, with a tokenizer of bytes, for `mlx_lm.load`."""
    from tqgen_kernels.demo.random_model import write_random_model

    folder = tmp_path_factory.mktemp("tiny")
    write_random_model(folder)
    return folder
