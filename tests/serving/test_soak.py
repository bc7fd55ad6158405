"""A short soak of the server: benchmarks/soak.py, which also runs for hours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak() -> Any:
    spec = importlib.util.spec_from_file_location("soak", SOAK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_answer_under_load_is_that_of_the_request_alone(
    soak: Any, tiny_model_path: Path
) -> None:
    result = soak.soak(tiny_model_path, 12.0, 8, 12, False, ["--scheme", "small"])
    assert result.errors == []
    assert result.different == []
    assert result.latencies
    assert result.health["status"] == "ok"
    assert set(result.logged) <= {"BrokenPipeError", "ConnectionResetError", "JSONDecodeError"}


def test_an_answer_is_read_with_its_tokens_or_without(soak: Any) -> None:
    whole = b'{"choices": [{"message": {"content": "ab"}, "logprobs": {"content": [{"id": 3}]}}]}'
    assert soak.answer_of(whole) == ("ab", [3])
    parts = b': keepalive 1/2\n\ndata: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    parts += b'data: {"choices": [{"text": "b"}]}\n\ndata: [DONE]\n\n'
    assert soak.answer_of(parts) == ("ab", [])
