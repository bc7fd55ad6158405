"""`tqgen generate, chat, serve, cache-prompt`: mlx_lm's own commands, compressed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlx.core as mx
import pytest

from tqgen_kernels import Scheme
from tqgen_kernels.cli import mlx_command
from tqgen_kernels.quant.layered import LayeredScheme, write_scheme

TQGEN = [sys.executable, "-c", "from tqgen_kernels.cli.main import app; app()"]
PROMPT = "All of a long prompt that fills tiles, and then some more. " * 4


def tqgen(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TQGEN, *arguments],
        capture_output=True,
        text=True,
        check=False,
        input=stdin,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"},
    )


def test_flags_name_a_scheme() -> None:
    choose = mlx_command.choose
    assert choose(None, None, None, None, None) == Scheme()
    assert choose("tiny", None, None, 128, 0) == Scheme(2, 2, residual=128, sinks=0)
    assert choose(None, 4, None, None, None) == Scheme(4, None)
    with pytest.raises(ValueError, match="Give one of"):
        choose("tiny", 3, None, None, None)


def test_measures_have_their_switches_and_a_file_is_a_scheme(tmp_path: Path) -> None:
    choose = mlx_command.choose
    assert choose(centre=False, guard="warn") == Scheme(centre=False, guard="warn")
    path = tmp_path / "own.json"
    layers = (Scheme(4, 2), Scheme(2, 2))
    write_scheme(path, LayeredScheme(layers), {})
    assert choose(str(path)) == LayeredScheme(layers)
    changed = choose(str(path), sinks=2, guard="off")
    assert changed == LayeredScheme(layers).changed(sinks=2, guard="off")
    with pytest.raises(ValueError, match="off, warn, on"):
        choose(guard="maybe")


def test_generate_takes_mlx_lms_flags_and_ours(tiny_model_path: Path) -> None:
    model = ["--model", str(tiny_model_path)]
    ran = tqgen(
        "generate", *model, "--prompt", PROMPT, "--max-tokens", "20", "--temp", "0",
        "--key-bits", "4", "--value-bits=3", "--fp16-layers", "0", "--residual", "32",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Generation: 20 tokens" in ran.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kv-bits", "4"], "--key-bits"),
        (["--scheme", "huge"], "choose one of"),
        (["--key-bits", "9"], "1 to 8"),
        (["--scheme", "tiny", "--key-bits", "3"], "Give one of --scheme and"),
        (["--model", "/no/such/folder"], "There is no /no/such/folder"),
        (["--prompt-cache-file", "none.safetensors"], "There is no none.safetensors"),
        (["--no-such-flag"], "tqgen generate: error: unrecognized arguments"),
    ],
)
def test_flags_that_cannot_be_are_one_line(flags: list[str], message: str) -> None:
    ran = tqgen("generate", *flags)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_shows_both_sets_of_flags() -> None:
    ran = tqgen("generate", "--help")
    assert ran.returncode == 0, ran.stderr
    for flag in ("--scheme", "--residual", "--max-kv-size", "--prompt-cache-file"):
        assert flag in ran.stdout


def test_a_prompt_is_stored_compressed_and_used(tiny_model_path: Path, tmp_path: Path) -> None:
    sizes = {}
    for name, flags in (("small", ["--scheme", "small"]), ("fp16", ["--fp16-layers", "9"])):
        path = str(tmp_path / f"{name}.safetensors")
        ran = tqgen(
            "cache-prompt", "--model", str(tiny_model_path), "--prompt-cache-file", path,
            "--prompt", "-", *flags, stdin=PROMPT * 4,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        sizes[name] = sum(a.nbytes for a in mx.load(path).values())
    assert sizes["small"] < sizes["fp16"] / 3
    path = str(tmp_path / "small.safetensors")
    ran = tqgen("generate", "--prompt-cache-file", path, "--prompt", "go on", "--max-tokens", "5")
    assert ran.returncode == 0, ran.stderr
    assert "Generation: 5 tokens" in ran.stdout


def test_chat_answers(tiny_model_path: Path) -> None:
    ran = tqgen(
        "chat", "--model", str(tiny_model_path), "--max-tokens", "8", "--scheme", "tiny",
        stdin="hello\nq\n",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


def post(port: int, body: dict[str, Any], path: str = "/v1/completions") -> Any:
    data = json.dumps({"temperature": 0, **body}).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def server(tiny_model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*TQGEN, "serve", "--model", str(tiny_model_path), "--port", str(port)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        for _ in range(600):
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield port, log
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_clients_at_once_get_what_each_gets_alone(server: tuple[int, Path]) -> None:
    port, log = server
    bodies = [
        {"prompt": f"{i}: " + PROMPT * (1 + i % 3), "max_tokens": 8 + 5 * (i % 4)} for i in range(8)
    ]
    alone = [post(port, {**body, "prompt": "x" + str(body["prompt"])[1:]}) for body in bodies]
    assert all(answer["choices"][0]["finish_reason"] == "length" for answer in alone)
    expected = [post(port, body)["choices"][0]["text"] for body in bodies]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: post(port, body), bodies))
    assert [answer["choices"][0]["text"] for answer in answers] == expected
    assert any(a["usage"]["prompt_tokens_details"]["cached_tokens"] > 50 for a in answers)
    held, plain = map(
        float, re.findall(r"take ([\d.]+) MB, uncompressed ([\d.]+)", log.read_text())[-1]
    )
    assert 0 < held < plain


BAD_BODIES: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": "", "seed": 1}, "prompt is empty"),
    ({"prompt": ["a", "b"]}, "prompt must be a string"),
    ({"prompt": "a", "top_k": 10**6}, "top_k 1000000"),
    ({"prompt": "a", "logit_bias": {"99999999": 5}}, "token 99999999"),
    ({"prompt": "a", "logit_bias": {str(2**70): 5}}, f"token {2**70}"),
    ({"prompt": "a", "xtc_probability": 1.0, "xtc_threshold": 0.9}, "xtc_threshold 0.9"),
    ({"prompt": "a", "stop": [5]}, "stop [5]"),
    ({"prompt": "a", "seed": -1}, "seed -1"),
]


@pytest.mark.parametrize(("body", "message"), BAD_BODIES, ids=[m for _, m in BAD_BODIES])
def test_requests_that_mlx_lms_server_dies_of_are_refused(
    server: tuple[int, Path], body: dict[str, Any], message: str
) -> None:
    port, _ = server
    with pytest.raises(HTTPError) as refused:
        post(port, {"max_tokens": 2, **body})
    assert refused.value.code in (400, 404)
    assert message in json.load(refused.value)["error"]
    assert post(port, {"prompt": "a", "max_tokens": 2})["usage"]["completion_tokens"] == 2


def test_a_port_in_use_is_one_line(server: tuple[int, Path], tiny_model_path: Path) -> None:
    ran = tqgen("serve", "--model", str(tiny_model_path), "--port", str(server[0]))
    assert ran.returncode == 2
    assert f", port {server[0]} (Address already in use)" in ran.stderr


def test_models_are_listed_without_a_hub(server: tuple[int, Path], tiny_model_path: Path) -> None:
    with urlopen(f"http://127.0.0.1:{server[0]}/v1/models", timeout=60) as response:
        names = [model["id"] for model in json.load(response)["data"]]
    assert str(tiny_model_path.resolve()) in names


def test_chat_completions_stream_and_bad_requests_do_no_harm(server: tuple[int, Path]) -> None:
    port, log = server
    for body in ({"messages": "no list"}, {"prompt": 5, "max_tokens": -3}, {"max_tokens": "x"}):
        with pytest.raises((HTTPError, OSError)):
            post(port, body)
    messages = [{"role": "user", "content": PROMPT * 2}]
    answer = post(port, {"messages": messages, "max_tokens": 4}, "/v1/chat/completions")
    assert answer["usage"]["completion_tokens"] == 4
    more = [*messages, {"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}]
    answer = post(port, {"messages": more, "max_tokens": 4}, "/v1/chat/completions")
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 260  # a block and 4 sinks
    with urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as response:
        health = json.load(response)
    assert health["status"] == "ok"
    stored = health["stored_prompts"]
    assert stored["saved_bytes"] == stored["uncompressed_bytes"] - stored["bytes"] > 0
    assert "AttributeError" not in log.read_text()
