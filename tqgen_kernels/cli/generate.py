"""`tqgen generate`: mlx_lm.generate with a compressed cache."""

from __future__ import annotations

import typer

from tqgen_kernels.cli import mlx_command as mlx


def generate(
    context: typer.Context,
    scheme: mlx.SchemeName = None,
    key_bits: mlx.KeyBits = None,
    value_bits: mlx.ValueBits = None,
    fp16_layers: mlx.Fp16Layers = 0,
    residual: mlx.Residual = None,
    sinks: mlx.Sinks = None,
) -> None:
    """mlx_lm.generate with a compressed cache."""
    chosen = mlx.choose(scheme, key_bits, value_bits, residual, sinks)
    mlx.run("generate", context, chosen, fp16_layers)
