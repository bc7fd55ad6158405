"""A server under many clients at once: is each answer that of the same request alone?

Clients send prompts of mixed lengths that share starts, as text and as chats, streamed or not,
greedy or sampled with a seed; they hang up in the middle of answers and send what no server should
take. Every answer is compared with that of a server that was asked nothing else and stores nothing.
Exit code 1 if one differs, an error comes back, or the server dies.

    python benchmarks/soak.py [--seconds 600] [--clients 8] [--model PATH] [--stock] [-- FLAGS]

The model is a tiny random one if none is given. --stock asks mlx_lm's own server, for comparison.
FLAGS are the server's, as in --scheme tiny or --no-equal-answers.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tqgen_kernels.demo.random_model import write_random_model
from tqgen_kernels.files import write_atomically

OURS = "from tqgen_kernels.cli.main import app; app()"
STOCK = (
    "from tqgen_kernels import cpu_blas; cpu_blas.lend(); from mlx_lm.server import main; main()"
)
TIMEOUT = 300.0  # seconds for one answer: the machine may be busy
STARTS = ("Once upon a time ", "In the beginning ", "def main(argv): ")
MALFORMED: tuple[tuple[str, str, bytes], ...] = (
    ("POST", "/v1/completions", b"{"),
    ("POST", "/v1/completions", b"[1, 2]"),
    ("POST", "/v1/completions", b'{"prompt": "x", "max_tokens": -3}'),
    ("POST", "/v1/completions", b'{"prompt": "x", "temperature": "hot"}'),
    ("POST", "/v1/chat/completions", b'{"messages": "no list"}'),
    ("POST", "/v1/none", b"{}"),
    ("GET", "/none", b""),
)
# What ends mlx_lm's own server, or its generation thread.
FATAL: tuple[tuple[str, str, bytes], ...] = tuple(
    ("POST", "/v1/completions", body)
    for body in (
        b'{"prompt": "", "max_tokens": 3}',
        b'{"prompt": ["a", "b"], "max_tokens": 3}',
        b'{"prompt": "x", "stop": [5]}',
        b'{"prompt": "x", "top_k": 1000000}',
        b'{"prompt": "x", "logit_bias": {"99999999": 5}}',
        b'{"prompt": "x", "xtc_probability": 1.0, "xtc_threshold": 0.9}',
    )
)


@dataclass(frozen=True)
class Request:
    """One request that has one right answer."""

    path: str
    body: dict[str, Any]


@dataclass
class Result:
    """What the clients saw, and the server's resident memory in bytes every few seconds."""

    seconds: float = 0.0
    sent: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    logged: Counter[str] = field(default_factory=Counter)  # by the server, of the clients' doing
    latencies: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    memory: list[int] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server process, the port where it listens, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def send(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and content of one request on a connection of its own."""
        headers = {"Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)) as line:
            line.request(method, path, body, headers)
            response = line.getresponse()
            return response.status, response.read()

    def memory(self) -> int:
        """Resident memory in bytes, 0 if the process has ended."""
        asked = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        return int(found) * 1024 if found else 0


@contextmanager
def serving(model: Path, folder: Path, stock: bool, flags: Sequence[str]) -> Iterator[Server]:
    """A server on a free port, ended afterwards. Raises RuntimeError if it does not start."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code, name = (STOCK, []) if stock else (OURS, ["serve"])
    command = [sys.executable, "-c", code, *name, "--model", str(model), "--port", str(port)]
    log = folder / f"server-{port}.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--log-level", "WARNING", *flags],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    server = Server(process, port, log)
    try:
        for _ in range(1200):
            try:
                server.send("GET", "/health", b"")
                break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"The server did not start: {log.read_text()}") from None
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


def requests(count: int, rng: random.Random) -> list[Request]:
    """`count` requests of mixed kinds and lengths, which share starts with one another."""
    letters = "abcdefghijklmnopqrstuvwxyz     "
    texts = [start + "".join(rng.choices(letters, k=2000)) for start in STARTS]
    made = []
    for i in range(count):
        text = rng.choice(texts)[: rng.choice([20, 100, 300, 600, 1200, 1900])]
        tail = "".join(rng.choices(letters, k=rng.randrange(1, 200)))
        body: dict[str, Any] = {"max_tokens": rng.randrange(1, 40), "temperature": 0}
        body["logprobs"] = True  # brings the tokens
        if i % 7 == 3:
            body |= {"repetition_penalty": 1.2, "frequency_penalty": 0.1}
        if i % 11 == 5:
            body |= {"seed": i, "temperature": 1.0}  # served alone, after all others
        if i % 3:
            made.append(Request("/v1/completions", body | {"prompt": text + tail}))
            continue
        turns = [{"role": "system", "content": text}, {"role": "user", "content": tail}]
        if i % 2:
            turns += [{"role": "assistant", "content": "so"}, {"role": "user", "content": "and?"}]
        made.append(Request("/v1/chat/completions", body | {"messages": turns}))
    return made


def answer_of(content: bytes) -> tuple[str, list[int]]:
    """The text of an answer, streamed or not, and its tokens, none if it was streamed."""
    if not content.startswith((b"data:", b":")):
        choice = json.loads(content)["choices"][0]
        return _text(choice), [token["id"] for token in choice["logprobs"]["content"]]
    lines = (line for line in content.split(b"\n") if line.startswith(b"data: {"))
    chunks = [json.loads(line.removeprefix(b"data: ")) for line in lines]
    return "".join(_text(choice) for chunk in chunks for choice in chunk["choices"]), []


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("message") or choice.get("delta") or choice
    return str(message.get("text") or message.get("content") or "")


class Client:
    """One of many clients. Asks until the time is over, and adds what it sees to the result."""

    def __init__(
        self,
        number: int,
        server: Server,
        expected: dict[int, tuple[str, list[int]]],
        asked: Sequence[Request],
        malformed: Sequence[tuple[str, str, bytes]],
    ) -> None:
        self.rng = random.Random(number)
        self.malformed = malformed
        self.server, self.expected, self.asked = server, expected, asked
        self.result = Result()

    def run(self, until: float) -> Result:
        """Ask in turn, most of the time something that has an answer."""
        while time.monotonic() < until:
            ask = self.rng.choices(
                [self._answer, self._hang_up, self._malformed, self._health], [14, 2, 2, 1]
            )[0]
            try:
                ask()
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.result.errors.append(f"{ask.__name__}: {type(error).__name__}: {error}")
                time.sleep(0.5)
        return self.result

    def _answer(self) -> None:
        which = self.rng.randrange(len(self.asked))
        request, stream = self.asked[which], self.rng.random() < 0.4
        begun = time.monotonic()
        body = json.dumps({**request.body, "stream": stream}).encode()
        status, content = self.server.send("POST", request.path, body)
        self.result.sent["streamed" if stream else "whole"] += 1
        self.result.latencies.append(time.monotonic() - begun)
        if status != 200:
            self.result.errors.append(f"request {which}: status {status}: {content[:200]!r}")
            return
        found, right = answer_of(content), self.expected[which]
        if found != ((right[0], []) if stream else right):
            self.result.different.append(f"request {which}: {found}, not {right}")
        if not stream:
            usage = json.loads(content)["usage"]
            self.result.prompt_tokens += usage["prompt_tokens"]
            self.result.reused_tokens += usage["prompt_tokens_details"]["cached_tokens"]

    def _hang_up(self) -> None:
        request = self.rng.choice(self.asked)
        body = json.dumps({**request.body, "stream": True, "max_tokens": 200}).encode()
        address = ("127.0.0.1", self.server.port)
        with closing(http.client.HTTPConnection(*address, timeout=TIMEOUT)) as line:
            line.request("POST", request.path, body, {"Content-Type": "application/json"})
            if self.rng.random() < 0.7:
                line.getresponse().read(self.rng.randrange(1, 2000))
        self.result.sent["hung up"] += 1

    def _malformed(self) -> None:
        method, path, body = self.rng.choice(self.malformed)
        status, content = self.server.send(method, path, body)
        self.result.sent["malformed"] += 1
        if not 400 <= status < 500:
            self.result.errors.append(f"{path} {body!r}: status {status}: {content[:200]!r}")

    def _health(self) -> None:
        status, content = self.server.send("GET", "/health", b"")
        self.result.sent["health"] += 1
        if status != 200 or json.loads(content)["status"] != "ok":
            self.result.errors.append(f"health: status {status}: {content[:200]!r}")


def soak(
    model: Path, seconds: float, clients: int, count: int, stock: bool, flags: Sequence[str]
) -> Result:
    """Ask one server everything in turn, then another by all clients at once."""
    asked = requests(count, random.Random(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected = {}
        with serving(model, folder, stock, [*flags, "--prompt-cache-size", "0"]) as server:
            for i, request in enumerate(asked):
                body = json.dumps(request.body).encode()
                status, content = server.send("POST", request.path, body)
                if status != 200:
                    raise RuntimeError(f"Request {i} alone: status {status}: {content[:500]!r}")
                expected[i] = answer_of(content)
        with serving(model, folder, stock, flags) as server:
            begun = time.monotonic()
            malformed = MALFORMED if stock else MALFORMED + FATAL
            made = [Client(i, server, expected, asked, malformed) for i in range(clients)]
            with ThreadPoolExecutor(clients) as pool:
                running = [pool.submit(client.run, begun + seconds) for client in made]
                memory = []
                while not all(one.done() for one in running):
                    memory.append(server.memory())
                    time.sleep(min(5.0, seconds / 20))
            results = [one.result() for one in running]
            status, content = server.send("GET", "/health", b"")
            total = Result(seconds=time.monotonic() - begun, memory=memory)
            total.health = json.loads(content)
            total.logged = Counter(re.findall(r"\w+Error\b", server.log.read_text()))
    for result in results:
        total.sent.update(result.sent)
        for name in ("different", "errors", "latencies"):
            getattr(total, name).extend(getattr(result, name))
        total.prompt_tokens += result.prompt_tokens
        total.reused_tokens += result.reused_tokens
    return total


def _table(result: Result) -> Table:
    third = max(len(result.memory) // 3, 1)
    early, late = (
        statistics.median(part) / 1e6
        for part in (result.memory[third : 2 * third], result.memory[-third:])
    )
    answers = len(result.latencies)
    table = Table(title=f"{answers} answers in {result.seconds:.0f} s", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("answers that differ from the request alone", str(len(result.different)))
    table.add_row("errors", str(len(result.errors)))
    table.add_row("median seconds an answer", f"{statistics.median(result.latencies):.2f}")
    share = 100 * result.reused_tokens / max(result.prompt_tokens, 1)
    table.add_row("prompt tokens that were reused", f"{share:.0f} %")
    table.add_row("server's memory, second and last third", f"{early:.0f} and {late:.0f} MB")
    for name, count in sorted(result.sent.items()):
        table.add_row(f"requests: {name}", str(count))
    for name, count in result.logged.items():
        table.add_row(f"in the server's log: {name}", str(count))
    for name, value in result.health.get("stored_prompts", {}).items():
        table.add_row(f"stored prompts: {name}", f"{value:,}")
    return table


def main(
    flags: Annotated[list[str] | None, typer.Argument(help="The server's, after --.")] = None,
    seconds: float = 600.0,
    clients: Annotated[int, typer.Option(min=1)] = 8,
    count: Annotated[int, typer.Option(min=1, help="Different requests.")] = 100,
    model: Annotated[Path | None, typer.Option(help="A folder for mlx_lm.load.")] = None,
    stock: Annotated[bool, typer.Option(help="mlx_lm's own server.")] = False,
    output: Annotated[Path | None, typer.Option(help="Write JSON here.")] = None,
) -> None:
    """Run the server under many clients and compare every answer with the request alone."""
    with tempfile.TemporaryDirectory() as name:
        if model is None:
            model = Path(name)
            write_random_model(model)
        result = soak(model, seconds, clients, count, stock, flags or [])
    console = Console()
    console.print(_table(result))
    for line in [*result.different[:5], *result.errors[:5]]:
        console.print(line, markup=False)
    if output is not None:
        write_atomically(output, json.dumps(vars(result), indent=1).encode())
    if result.different or result.errors:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
