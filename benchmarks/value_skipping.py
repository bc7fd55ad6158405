"""What a value threshold leaves out: of tokens, of tiles, and by the bound that the kernels know.

The demo model reads text into an fp16 cache; a few decode steps tell every layer's softmax weights.

    python benchmarks/value_skipping.py [--tokens 3072] [--steps 4] [--output x.json]
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from tqgen_kernels import cpu_blas

THRESHOLDS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
SINKS, RESIDUAL, TILE = 4, 64, 32
COLUMNS = ("threshold", "tokens below", "tiles below", "tiles left out", "their weight")


def shares(scores: NDArray[np.floating], threshold: float) -> tuple[float, ...]:
    """Of scores (kv_heads, query heads of each, tokens): packed tokens below the threshold for all
    queries of a head, tiles all of whose tokens are, tiles that the bound leaves out, and the
    weight that those had."""
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    total = weights.sum(-1, keepdims=True)
    known = weights[..., :SINKS].sum(-1) + weights[..., -5:-1].sum(-1)
    packed = (weights.shape[-1] - SINKS - RESIDUAL) // TILE * TILE
    inside = weights[..., SINKS : SINKS + packed]
    below = (inside / total < threshold).all(1)
    left_out = (inside / known[..., None] < threshold).all(1).reshape(len(below), -1, TILE).all(-1)
    lost = (inside / total).reshape(*inside.shape[:2], -1, TILE).sum(-1) * left_out[:, None]
    tiles = below.reshape(len(below), -1, TILE).all(-1)
    return (
        float(below.mean()),
        float(tiles.mean()),
        float(left_out.mean()),
        float(lost.sum(-1).mean()),
    )


def main(
    tokens: Annotated[int, typer.Option(help="Of the text.")] = 3072,
    steps: Annotated[int, typer.Option(help="Decode steps that are looked at.")] = 4,
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("value_skipping.json"),
) -> None:
    """Print the table."""
    cpu_blas.lend()
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.models.cache import make_prompt_cache
    from timing import report

    from tqgen_kernels.autotuning import device_backend
    from tqgen_kernels.demo.model import demo_model
    from tqgen_kernels.demo.text import demo_text

    model, tokenizer = load(str(demo_model(say=print, progress=lambda *_: None)))[:2]
    ids = tokenizer.encode(demo_text())[: tokens + steps]
    cache = make_prompt_cache(model)
    plain = mx.fast.scaled_dot_product_attention
    found: dict[float, list[tuple[float, ...]]] = {t: [] for t in THRESHOLDS}

    def attention(
        q: mx.array, k: mx.array, v: mx.array, *, scale: float, **options: Any
    ) -> mx.array:
        if q.shape[2] == 1:
            grouped = np.array(q.astype(mx.float32)).reshape(k.shape[1], -1, q.shape[3])
            scores = scale * grouped @ np.array(k.astype(mx.float32))[0].swapaxes(-1, -2)
            for threshold, rows in found.items():
                rows.append(shares(scores, threshold))
        return plain(q, k, v, scale=scale, **options)

    for first in range(0, tokens, 512):
        model(mx.array(ids[first : min(first + 512, tokens)])[None], cache=cache)
        mx.eval([layer.state for layer in cache])
    mx.fast.scaled_dot_product_attention = attention
    for token in ids[tokens:]:
        mx.eval(model(mx.array([[token]]), cache=cache))
    rows = [
        dict(zip(COLUMNS, (threshold, *np.mean(values, axis=0).tolist()), strict=True))
        for threshold, values in found.items()
    ]
    report("value skipping", device_backend(), COLUMNS, rows, output)


if __name__ == "__main__":
    typer.run(main)
