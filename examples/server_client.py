"""Start `tqgen serve`, and stream an answer from its OpenAI-style API.

python examples/server_client.py [--model PATH_OR_NAME] [--scheme small] [question ...]

With --url the client alone talks to a server that runs already.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

from tqgen_kernels.demo.model import demo_model

PATIENCE = 120  # seconds for the server to load its model


@contextmanager
def server(model: str, scheme: str) -> Iterator[str]:
    """The address of a server that runs as long as the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from tqgen_kernels.cli.main import app; app()"
    command = [sys.executable, "-c", code, "serve", "--model", model, "--port", str(port)]
    process = subprocess.Popen([*command, "--scheme", scheme, "--log-level", "WARNING"])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"{url}/health", timeout=5):
                return
        except (URLError, ConnectionError):
            time.sleep(0.2)
    raise SystemExit(f"the server at {url} did not start")


def ask(url: str, question: str, max_tokens: int) -> Iterator[str]:
    """The answer, piece by piece."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "stream": True,
    }
    request = Request(
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request) as response:
        for line in response:
            data = line.decode().removeprefix("data: ").strip()
            if data.startswith("{"):
                yield json.loads(data)["choices"][0]["delta"].get("content") or ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("questions", nargs="*", default=["What is the capital of France?"])
    parser.add_argument("--model", help="an mlx-lm model; default: the demo model")
    parser.add_argument("--scheme", default="balanced")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--url", help="of a server that runs already")
    args = parser.parse_args()

    def answer_all(url: str) -> None:
        for question in args.questions:
            print(f"\n> {question}")
            for piece in ask(url, question, args.max_tokens):
                print(piece, end="", flush=True)
            print()

    if args.url:
        answer_all(args.url)
        return
    model = args.model or str(demo_model(say=print, progress=lambda *_: None))
    with server(model, args.scheme) as url:
        answer_all(url)


if __name__ == "__main__":
    main()
