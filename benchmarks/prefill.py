"""A long prompt into an fp16 cache and into compressed ones: seconds, and memory while it runs.

A model of a given shape with random 4-bit weights; the prompt goes in by chunks, as in mlx-lm. Only
some of its layers are run: each does the same work, so that the ratio of two caches is that of all
of them. Most of the work is that of the weights, the same for every cache.

    python benchmarks/prefill.py [--shape qwen2.5-7b] [--tokens 32768] [--quick] [--output x.json]
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import typer
from model import SHAPES, build
from timing import report

from tqgen_kernels import TurboQuantKVCache, apply_patch
from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.cache.attention import plain_attention
from tqgen_kernels.cache.by_heads import attend_by_heads
from tqgen_kernels.quality.contenders import Contender, contender

COLUMNS = (
    "cache", "layers", "tokens", "chunk", "first s", "seconds", "s/layer", "x fp16", "cache MB",
    "peak MB", "working MB", "more than fp16",
)  # fmt: skip


def check(kv_heads: int, gqa: int, dim: int, tokens: int = 512) -> None:
    """Heads apart against all together, and that against the keys and values as they came.

    Raises RuntimeError where they differ by more than rounding, or by more than 4 bits explain.
    """
    made = [mx.random.normal((1, kv_heads, tokens, dim), mx.float16) for _ in range(2)]
    q = mx.random.normal((1, kv_heads * gqa, 64, dim), mx.float16)
    cache = TurboQuantKVCache(scheme="balanced")
    cache.append(*(x[:, :, :-64] for x in made))
    k, v = cache.update_and_fetch(*(x[:, :, -64:] for x in made))
    options: dict[str, Any] = {"scale": dim**-0.5, "mask": "causal"}
    together = plain_attention(q, *cache.contents(), **options)
    apart = attend_by_heads(plain_attention, q, k, v, sinks=None, **options, group_bytes=1)
    exact = plain_attention(q, *made, **options)
    for name, found, wanted, most in (
        ("heads apart", apart, together, 2e-3),
        ("the compressed cache", together, exact, 0.4),
    ):
        error = (
            mx.linalg.norm((found - wanted).astype(mx.float32)) / mx.linalg.norm(wanted)
        ).item()
        if not error < most:
            raise RuntimeError(f"{name}: relative error {error:.3g}, at most {most}.")


def once(model: Any, one: Contender, prompt: mx.array, chunk: int) -> dict[str, float]:
    """One prefill: its seconds, the bytes of its cache, and the most that MLX held meanwhile."""
    cache: list[Any] = one.factory(model)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    start = time.perf_counter()
    for first in range(0, prompt.shape[1], chunk):
        model(prompt[:, first : first + chunk], cache=cache)
        mx.eval([layer.state for layer in cache])
        mx.clear_cache()
    seconds = time.perf_counter() - start
    peak = mx.get_peak_memory() - before
    return {"seconds": seconds, "cache": sum(layer.nbytes for layer in cache), "peak": peak}


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(SHAPES)}.")] = "qwen2.5-7b",
    tokens: Annotated[int, typer.Option(help="Of the prompt.")] = 32768,
    chunk: Annotated[int, typer.Option(help="Tokens that go in at a time.")] = 2048,
    caches: Annotated[str, typer.Option(help="With commas; fp16 is the baseline.")] = (
        "fp16,balanced"
    ),
    layers: Annotated[int, typer.Option(help="Of the model; 0: all.")] = 4,
    rounds: Annotated[int, typer.Option(help="Prefills of each cache, there and back.")] = 1,
    quick: Annotated[bool, typer.Option(help="The tiny shape, a short prompt.")] = False,
    output: Annotated[Path, typer.Option(help="JSON.")] = Path("results/prefill.json"),
) -> None:
    """Print one table, write JSON.

    first s: of the first prefill, in which kernels are compiled and MLX plans its attention for
    each length. working MB: the peak less the cache: activations, and whatever is dequantised at a
    time. more than fp16: by how much that exceeds the fp16 run's, as a share of the fp16 cache.
    """
    backend = device_backend()
    if quick:
        shape, tokens, chunk, rounds = "tiny", 512, 128, 1
    apply_patch()
    model, vocabulary, shapes = build(shape, layers or None)
    heads = SHAPES[shape][2]
    check(shapes[0][0], heads // shapes[0][0], shapes[0][1])
    contenders = [contender(name, shapes) for name in ("fp16", *caches.split(",")) if name]
    contenders = list({one.name: one for one in contenders}.values())
    mx.random.seed(0)
    prompt = mx.random.randint(0, vocabulary, (1, tokens))
    found: dict[str, list[dict[str, float]]] = {one.name: [] for one in contenders}
    there_and_back = [*contenders, *reversed(contenders)]
    for one in [*contenders, *there_and_back * rounds]:
        found[one.name].append(once(model, one, prompt, chunk))
        seconds = found[one.name][-1]["seconds"]
        print(f"{one.name}: {seconds:.2f} s", flush=True)  # what there is, should time run out
    report(
        f"Prefill, {shape}",
        backend,
        COLUMNS,
        [_row(n, found, tokens, chunk, len(shapes)) for n in found],
        output,
    )


def _row(
    name: str, found: dict[str, list[dict[str, float]]], tokens: int, chunk: int, layers: int
) -> dict[str, Any]:
    def middle(of: str, what: str) -> float:
        return statistics.median(run[what] for run in found[of][1:])

    seconds, cache, peak = (middle(name, what) for what in ("seconds", "cache", "peak"))
    base = middle("fp16", "cache")
    more = (peak - cache) - (middle("fp16", "peak") - base)
    return {
        "cache": name,
        "layers": layers,
        "tokens": tokens,
        "chunk": chunk,
        "first s": found[name][0]["seconds"],
        "seconds": seconds,
        "s/layer": seconds / layers,
        "x fp16": middle("fp16", "seconds") / seconds,
        "cache MB": cache / 1e6,
        "peak MB": peak / 1e6,
        "working MB": (peak - cache) / 1e6,
        "more than fp16": more / base,
    }


if __name__ == "__main__":
    typer.run(main)
