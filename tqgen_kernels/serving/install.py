"""What `tqgen serve` puts into mlx-lm's server module before its main function runs."""

from __future__ import annotations

import json
import logging
import socket
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
from huggingface_hub.errors import CacheNotFound

from tqgen_kernels.serving.generator import SealedBatchGenerator
from tqgen_kernels.serving.reuse import SealedPromptCache, count_bytes
from tqgen_kernels.serving.single import stream_generate


def list_models_without_a_hub(server: Any) -> None:
    """Let /v1/models answer where nothing was ever downloaded from a hub."""
    scan = server.scan_cache_dir

    def scan_or_nothing() -> Any:
        try:
            return scan()
        except CacheNotFound:
            return SimpleNamespace(repos=frozenset())

    server.scan_cache_dir = scan_or_nothing


def refuse_a_port_in_use(server: Any) -> None:
    """Look whether the server can listen before its generation thread starts, which would keep the
    process alive for nothing."""
    run = server.run

    def run_where_it_can(host: str, port: int, *args: Any) -> None:
        if mx.distributed.init().rank() == 0:
            check_port(host, port)
        run(host, port, *args)

    server.run = run_where_it_can


def check_port(host: str, port: int) -> None:
    """Raises ValueError if nothing can listen there."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(
            f"The server cannot listen on {host}, port {port} ({reason}): give --host an address "
            "of this machine, and --port one that is free."
        ) from error


def equal_answers(server: Any) -> None:
    """Let stored prompts be reused only where the answer is that of the same request alone."""
    server.LRUPromptCache = SealedPromptCache
    server.BatchGenerator = SealedBatchGenerator
    server.stream_generate = stream_generate


def show_savings(server: Any) -> None:
    """Let the log and /health say what compression saves of the stored prompts."""
    log_cache_stats = server.ResponseGenerator._log_cache_stats

    def log(self: Any) -> None:
        log_cache_stats(self)
        prompts = self.prompt_cache
        count_bytes(prompts)
        held, plain = prompts.held_bytes, prompts.plain_bytes
        logging.info(
            f"Stored prompts take {held / 1e6:.1f} MB, uncompressed {plain / 1e6:.1f} MB: "
            f"{(plain - held) / 1e6:.1f} MB saved"
        )

    def health(self: Any) -> None:
        responses = self.response_generator
        healthy = responses.is_healthy
        prompts = getattr(responses, "prompt_cache", None)  # gone once the generation thread ends
        held, plain = (getattr(prompts, name, 0) for name in ("held_bytes", "plain_bytes"))
        stored = {"bytes": held, "uncompressed_bytes": plain, "saved_bytes": plain - held}
        self._set_completion_headers(200 if healthy else 503)
        self.end_headers()
        status = "ok" if healthy else "unavailable"
        self.wfile.write(json.dumps({"status": status, "stored_prompts": stored}).encode())
        self.wfile.flush()

    server.ResponseGenerator._log_cache_stats = log
    server.APIHandler.handle_health_check = health
