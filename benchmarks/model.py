"""Decode speed of a whole model, fp16 cache beside compressed ones, by context length.

A model of a given shape with random 4-bit weights: nothing is downloaded, and speed does not
depend on what the weights are. Caches are filled with random keys and values, except for the
prefill measurement. Run it as

    python benchmarks/model.py [--shape qwen2.5-7b] [--quick] [--output model.json]
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import mlx.nn as nn
import typer
from rich.console import Console
from rich.table import Table

from tqgen_kernels.files import write_atomically
from tqgen_kernels.quality.contenders import contender
from tqgen_kernels.quality.speed import Speed, measure_speed

# hidden, layers, heads, kv_heads, intermediate, vocabulary
SHAPES = {
    "qwen2.5-7b": (3584, 28, 28, 4, 18944, 152064),
    "qwen2.5-0.5b": (896, 24, 14, 2, 4864, 151936),
    "tiny": (256, 2, 4, 2, 512, 1024),
}


def build(shape: str, layers: int | None = None) -> tuple[Any, int, list[tuple[int, int, int]]]:
    """A Qwen2 model with random 4-bit weights, its vocabulary, and the shapes of its caches.

    layers: only so many of them.
    """
    from mlx_lm.models import qwen2

    hidden, all_layers, heads, kv_heads, intermediate, vocabulary = SHAPES[shape]
    layers = layers or all_layers
    model = qwen2.Model(
        qwen2.ModelArgs(
            model_type="qwen2",
            hidden_size=hidden,
            num_hidden_layers=layers,
            intermediate_size=intermediate,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            rms_norm_eps=1e-6,
            vocab_size=vocabulary,
            tie_word_embeddings=False,
        )
    )
    on_gpu = mx.default_device() != mx.cpu
    if on_gpu:
        model.set_dtype(mx.float16)
        nn.quantize(model, group_size=64, bits=4)
    mx.eval(model.parameters())
    return model, vocabulary, [(kv_heads, hidden // heads, hidden // heads)] * layers


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "qwen2.5-7b",
    caches: Annotated[str, typer.Option(help="With commas.")] = "fp16,balanced,small",
    contexts: Annotated[str, typer.Option(help="With commas.")] = "1024,8192,32768,102400",
    batch: Annotated[int, typer.Option(help="Rows that decode together.")] = 1,
    prefill: Annotated[int, typer.Option(help="Tokens of a prefill to time as well; 0: none.")] = 0,
    steps: Annotated[int, typer.Option(help="Tokens of a decode round.")] = 32,
    quick: Annotated[bool, typer.Option(help="The tiny shape and short contexts.")] = False,
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("model.json"),
) -> None:
    """Print one table, write JSON."""
    if quick:
        shape, contexts, steps = "tiny", "256,512", 4
    model, vocabulary, shapes = build(shape)
    contenders = [contender(name, shapes) for name in caches.split(",")]
    found: list[Speed] = []
    for context in map(int, contexts.split(",")):
        found += measure_speed(
            model,
            contenders,
            context,
            vocabulary=vocabulary,
            batch=batch,
            steps=steps,
            kv_shapes=shapes,
        )
    if prefill:
        for one in contenders:
            found += measure_speed(model, [one], prefill, vocabulary=vocabulary, batch=batch)
    document = json.dumps([asdict(speed) for speed in found], indent=1) + "\n"
    write_atomically(output, document.encode())
    _print(found, f"{shape}, batch {batch}, {mx.device_info().get('device_name', 'CPU')}")


def _print(found: list[Speed], title: str) -> None:
    table = Table(
        "context", "cache", "prefill tok/s", "decode tok/s", "x fp16", "cache MB", "peak MB"
    )
    table.title = title
    for s in found:
        base = [f.decode for f in found if f.context == s.context and f.cache == "fp16"]
        ratio = f"{s.decode / base[0]:.2f}" if base and base[0] else "-"
        prefill = f"{s.prefill:.0f}" if s.prefill else "-"
        numbers = (prefill, f"{s.decode:.1f}", ratio, f"{s.cache_bytes / 1e6:.0f}")
        table.add_row(str(s.context), s.cache, *numbers, f"{s.peak_bytes / 1e6:.0f}")
        if s.error:
            table.add_row("", s.error)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
