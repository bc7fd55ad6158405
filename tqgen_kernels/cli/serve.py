"""`tqgen serve`: mlx_lm.server with a compressed cache."""

from __future__ import annotations

import logging
from typing import Any

import typer

from tqgen_kernels.cli import mlx_command as mlx


def serve(
    context: typer.Context,
    scheme: mlx.SchemeName = None,
    key_bits: mlx.KeyBits = None,
    value_bits: mlx.ValueBits = None,
    fp16_layers: mlx.Fp16Layers = 0,
    residual: mlx.Residual = None,
    sinks: mlx.Sinks = None,
) -> None:
    """mlx_lm.server with a compressed cache: batching and prompt reuse stay on, and the log says
    what the stored prompts take and what they would take in the model's dtype."""
    chosen = mlx.choose(scheme, key_bits, value_bits, residual, sinks)
    mlx.run("server", context, chosen, fp16_layers, prepare=log_savings)


def log_savings(server: Any) -> None:
    """Let the server's log of its prompt cache say what compression saves."""
    generator = server.ResponseGenerator
    log_cache_stats = generator._log_cache_stats

    def log(self: Any) -> None:
        log_cache_stats(self)
        stored = self.prompt_cache
        keys = [key for lru in stored._lru._lrus.values() for key in lru]
        layers = [layer for key in keys for layer in stored._trie.get(*key).prompt_cache]
        held = sum(layer.nbytes for layer in layers)
        plain = sum(getattr(layer, "plain_nbytes", layer.nbytes) for layer in layers)
        logging.info(
            f"Stored prompts take {held / 1e6:.1f} MB, uncompressed {plain / 1e6:.1f} MB: "
            f"{(plain - held) / 1e6:.1f} MB saved"
        )

    generator._log_cache_stats = log
