"""A long key bias, as Qwen 2.5 has, in a model that has none: what is left of its answers.

python benchmarks/stress.py TEXT [--quick] [--output stress.json]

The function that the biased model computes with exact keys is the yardstick: KL(exact || cache) in
nats. The bias, a random vector of the given length, is added to the keys of some layers before
RoPE. "slow": in the 4 pairs of coordinates that RoPE turns least, so that a centre can hold it;
"all": everywhere, so that none can.
"""

# ruff: noqa: E402
from __future__ import annotations

from tqgen_kernels import cpu_blas

cpu_blas.lend()  # before MLX is imported: many times faster on a CPU

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import mlx.core as mx
import numpy as np
import typer
from mlx_lm.models.cache import KVCache
from rich.console import Console
from rich.table import Table

from tqgen_kernels import Scheme, apply_patch, make_prompt_cache
from tqgen_kernels.files import write_atomically
from tqgen_kernels.quality.agreement import agreement
from tqgen_kernels.quality.contenders import contender, plain_cache
from tqgen_kernels.quality.load import LoadedModel, load_model
from tqgen_kernels.quality.teacher import CacheFactory, Steps, windows

SLOW_PAIRS = 4
STRESSES: tuple[tuple[str, float, tuple[int, ...]], ...] = (
    ("slow", 750.0, (2, 27)),
    ("slow", 900.0, (0, 10, 20)),
    ("all", 750.0, (2, 27)),
)


class Rounded(KVCache):
    """mlx-lm's cache with what it holds rounded to float16: the floor of every other row."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
        dtype = keys.dtype
        rounded = (x.astype(mx.float16).astype(dtype) for x in (keys, values))
        return super().update_and_fetch(*rounded)  # type: ignore[no-untyped-call]


def ours(**fields: Any) -> CacheFactory:
    def factory(model: Any) -> list[Any]:
        made: list[Any] = make_prompt_cache(model, scheme=Scheme(**fields))
        return made

    return factory


def caches(loaded: LoadedModel, quick: bool) -> dict[str, CacheFactory]:
    plain: Callable[[], Any] = Rounded
    found: dict[str, CacheFactory] = {"float16": lambda model: [plain() for _ in model.layers]}
    for name in ("mlx-8", "mlx-4"):
        found[name] = contender(name, loaded.kv_shapes).factory
    for key_bits, value_bits in ((4, 3),) if quick else ((4, 3), (4, 2), (2, 2)):
        bits = {"key_bits": key_bits, "value_bits": value_bits}
        name = f"K{key_bits} V{value_bits}"
        found[f"{name}, no centre, no guard"] = ours(**bits, centre=False, guard="off")
        found[f"{name}, centre, no guard"] = ours(**bits, guard="off")
        found[f"{name}, centre and guard"] = ours(**bits)
    return found


def bias(shape: tuple[int, int], kind: str, length: float, rng: np.random.Generator) -> mx.array:
    """A random key bias (kv_heads * head_dim,), `length` long in each head."""
    heads, dim = shape
    slow = [*range(dim // 2 - SLOW_PAIRS, dim // 2), *range(dim - SLOW_PAIRS, dim)]
    places = slow if kind == "slow" else range(dim)
    vectors = np.zeros((heads, dim), np.float32)
    vectors[:, list(places)] = rng.standard_normal((heads, len(places)))
    vectors *= length / np.linalg.norm(vectors, axis=1, keepdims=True)
    return mx.array(vectors.reshape(-1))


def inject(loaded: LoadedModel, kind: str, length: float, layers: Sequence[int]) -> None:
    """Gives the named layers, and no others, a key bias."""
    rng = np.random.default_rng(0)
    for i, layer in enumerate(loaded.model.layers):
        projection = layer.self_attn.k_proj
        if "bias" in projection:
            del projection["bias"]
        if i in layers:
            heads, dim, _ = loaded.kv_shapes[i]
            projection.bias = bias((heads, dim), kind, length, rng)


def measure(
    loaded: LoadedModel, window: Sequence[int], steps: Steps, quick: bool
) -> dict[str, dict[str, float]]:
    """KL by cache and stress."""
    table: dict[str, dict[str, float]] = {}
    for kind, length, layers in STRESSES[-1:] if quick else STRESSES:
        inject(loaded, kind, length, layers)
        tested = caches(loaded, quick)
        units = agreement(loaded.model, window, plain_cache, tested, steps, lambda *args: None)
        stress = f"{kind}, {length:.0f}, layers {', '.join(map(str, layers))}"
        for name, unit in units.items():
            table.setdefault(name, {})[stress] = float(np.mean(unit.kl))
    return table


def main(
    text: Annotated[Path, typer.Argument(help="UTF-8 text.")],
    quick: Annotated[bool, typer.Option(help="One stress, K4 V3 alone.")] = False,
    scored: Annotated[int, typer.Option(min=1)] = 128,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/stress.json"
    ),
) -> None:
    """Measures the demo model, whose layers have no key bias of their own."""
    from tqgen_kernels.demo.model import demo_model

    console = Console()
    loaded = load_model(str(demo_model(say=console.print, progress=lambda *args: None)))
    apply_patch()
    steps = Steps(512 + scored, 512, 512, 32)
    words = text.read_text(encoding="utf-8")[:20000]
    tokens = loaded.tokenizer.encode(words, add_special_tokens=False, verbose=False)
    found = measure(loaded, windows(tokens, steps, 1)[0], steps, quick)
    document = {"KL in nats": found, "scored tokens": scored}
    write_atomically(output, (json.dumps(document, indent=1) + "\n").encode())
    stresses = list(next(iter(found.values())))
    table = Table("KL, nats", *stresses)
    for name, row in found.items():
        table.add_row(name, *(f"{row[stress]:.4f}" for stress in stresses))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
