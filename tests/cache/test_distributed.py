"""Two processes on one host: the same tokens as one, in both of mlx-lm's ways to share a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm import load
from mlx_lm.generate import generate_step

from tqgen_kernels import make_prompt_cache

PROGRAM = """
import json, sys
import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import sharded_load
from tqgen_kernels import apply_patch, make_prompt_cache

apply_patch()
group = mx.distributed.init(strict=True)
assert group.size() == 2
for groups in ((None, group), (group, None)):
    model, _ = sharded_load(sys.argv[1], *groups)
    cache = make_prompt_cache(model, bits=8)
    prompt = mx.arange(180) % 250
    steps = generate_step(prompt, model, max_tokens=40, prompt_cache=cache, prefill_step_size=64)
    tokens = [int(token) for token, _ in steps]
    print(json.dumps([len(cache), cache[0].store.keys.exact.shape[1], tokens]), flush=True)
"""
LAUNCH = "from mlx._distributed_utils.launch import main; main()"


def test_tensor_and_pipeline_parallel_give_what_one_process_gives(
    tiny_model_path: Path, tmp_path: Path
) -> None:
    model = load(str(tiny_model_path))[0]
    cache = make_prompt_cache(model, bits=8)
    steps = generate_step(
        mx.arange(180) % 250, model, max_tokens=40, prompt_cache=cache, prefill_step_size=64
    )
    expected = [int(token) for token, _ in steps]

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ran = subprocess.run(
        [
            *(sys.executable, "-c", LAUNCH),
            *("-n", "2", "--hosts", "127.0.0.1", "--backend", "ring"),
            *(sys.executable, str(program), str(tiny_model_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    # Both ranks: two layers with one of two heads each, then one of two layers.
    both = [[2, 1, expected], [1, 2, expected]]
    assert sorted(lines) == sorted(both * 2), ran.stdout + ran.stderr
