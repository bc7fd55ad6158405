"""`tqgen bench` on a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tqgen_kernels.cli import bench
from tqgen_kernels.quality.speed import Speed, longest_context

CACHES = "fp16,balanced,mlx-4"


@pytest.mark.parametrize("as_json", [True, False])
def test_bench_compares_caches(
    as_json: bool,
    tiny_model_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bench.bench(str(tiny_model_path), "160,320", CACHES, steps=2, rounds=1, as_json=as_json)
    out = capsys.readouterr().out
    if not as_json:
        assert "fits" in out
        assert out.count("balanced") == 2
        return
    rows = json.loads(out)
    assert [(row["context"], row["cache"]) for row in rows] == [
        (context, cache) for context in (160, 320) for cache in CACHES.split(",")
    ]
    assert not any(row["error"] for row in rows)
    fp16, ours, _ = rows[3:]
    assert fp16["times_fp16"] == 1.0
    assert ours["cache_bytes"] < fp16["cache_bytes"]
    assert ours["longest_context"] > fp16["longest_context"] > 0


def test_the_longest_context_follows_how_the_cache_grows() -> None:
    assert longest_context(10_000, 1_000, [(100, 900)]) == 1000
    assert longest_context(10_000, 1_000, [(100, 900), (200, 1_000)]) == 8200  # 800 fixed, 1 each
    assert longest_context(1_000, 5_000, [(100, 900)]) == 0


def test_a_cache_that_fails_is_a_row_with_its_error() -> None:
    (row,) = bench._rows([Speed("mlx-4", 10, 1, error="ValueError: no")], 10**9, 0)
    assert row["error"] == "ValueError: no"
    assert row["times_fp16"] is row["longest_context"] is None


@pytest.mark.parametrize("text", ["", "a", "0", "12,-3"])
def test_contexts_are_lengths(text: str) -> None:
    with pytest.raises(ValueError, match="give lengths"):
        bench._lengths(text)
