"""What trellis codes cost a model beside scalar ones of the same bits, through their kernels.

python benchmarks/trellis_quality.py TEXT [--windows 2] [--bits 2 --bits 3] [--output FILE]

A cache that only imitates ours: packed tokens go through encode and dequantize of the device, or
the emulator, and attention is mlx-lm's own over the result. The exact window, the centre of the
keys and the corrected scales are those of the default scheme; there is no guard. Scalar codes in
the same imitation say how far it can be trusted: `tqgen eval` measures those in the real cache.
"""

# ruff: noqa: E402
from __future__ import annotations

from tqgen_kernels import cpu_blas

cpu_blas.lend()  # before MLX is imported: many times faster on a CPU

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import mlx.core as mx
import numpy as np
import typer
from mlx_lm.models.cache import KVCache
from rich.console import Console
from rich.table import Table

from tqgen_kernels.autotuning import device_backend
from tqgen_kernels.cache.centre import centre_of
from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    DequantizeProblem,
    EncodeProblem,
    Problem,
    TrellisDequantizeProblem,
    TrellisEncodeProblem,
    family_of,
)
from tqgen_kernels.files import write_atomically
from tqgen_kernels.quality.agreement import Agreement, agreement
from tqgen_kernels.quality.contenders import plain_cache
from tqgen_kernels.quality.load import load_model
from tqgen_kernels.quality.teacher import Steps, windows
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs
from tqgen_kernels.quant.scheme import Scheme

SCHEME = Scheme()  # its exact window, sinks and codebook


@dataclass(frozen=True)
class Code:
    """There and back: a pair of problems with float32 vectors of head_dim."""

    encode: Problem
    dequantize: Problem

    def __call__(self, x: mx.array) -> mx.array:
        """What vectors (B, H, 32 n, D) come back as."""
        tiles = x.shape[2] // TILE
        turn = mx.array(signs(x.shape[3], SCHEME.seed))
        sizes = mx.array(np.array([tiles, tiles, 0, 0, 0, 0, 0, 0], np.int32))
        scalars = {"tiles": tiles}
        words, scales = _kernel(self.encode)({"x": x, "signs": turn, "params": sizes}, scalars)
        packed = {"words": words, "scales": scales, "signs": turn, "params": sizes}
        return cast("mx.array", _kernel(self.dequantize)(packed, scalars)[0])


def _kernel(problem: Problem) -> Any:
    from tqgen_kernels.execution import registry

    config = FAMILIES[family_of(problem)].default(problem)
    return registry.compile(problem, config, device_backend())


def trellis(dim: int, bits: int) -> Code:
    return Code(
        TrellisEncodeProblem(dim, bits, "float32"), TrellisDequantizeProblem(dim, bits, "float32")
    )


def scalar(dim: int, bits: int, side: str) -> Code:
    kind = side_kind(SCHEME.codebook, side)  # type: ignore[arg-type]
    return Code(
        EncodeProblem(dim, bits, "key", "float32", codebook=kind),
        DequantizeProblem(dim, bits, "key", "float32", codebook=kind),
    )


class Imitation(KVCache):
    """mlx-lm's cache, whose tokens are replaced by what they come back as once they are packed."""

    def __init__(self, key_code: Code, value_code: Code) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.codes = (key_code, value_code)
        self.packed = 0
        self.centre: mx.array | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """All keys and values so far; the new ones are packed afterwards, as ours are."""
        if self.keys is not None and self.values is not None:
            keys = mx.concatenate([self.keys, keys], axis=2)
            values = mx.concatenate([self.values, values], axis=2)
        self.offset = keys.shape[2]
        self.keys, self.values = self._pack(keys, values)
        return keys, values

    def _pack(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        first = SCHEME.sinks + self.packed
        tiles = max(0, self.offset - first - SCHEME.residual) // TILE
        if tiles == 0:
            return keys, values
        if self.centre is None:
            self.centre = centre_of(keys[:, :, SCHEME.sinks :])
        last = first + tiles * TILE
        self.packed += tiles * TILE
        back = (
            self.codes[0](keys[:, :, first:last] - self.centre) + self.centre,
            self.codes[1](values[:, :, first:last]),
        )
        keys, values = (
            mx.concatenate([x[:, :, :first], new, x[:, :, last:]], axis=2)
            for x, new in zip((keys, values), back, strict=True)
        )
        return keys, values


def row(name: str, units: list[Agreement]) -> dict[str, Any]:
    def mean(field: str) -> float:
        return float(np.mean([np.mean(getattr(unit, field)) for unit in units]))

    change = np.exp(mean("nll") - mean("reference_nll")) - 1
    return {
        "code": name,
        "perplexity %": 100 * float(change),
        "KL": mean("kl"),
        "KL by window": [float(np.mean(unit.kl)) for unit in units],
        "top-1 %": 100 * mean("top1"),
    }


def main(
    text: Annotated[Path, typer.Argument(help="UTF-8 text.")],
    model: Annotated[str | None, typer.Option(help="mlx-lm model; default: the demo's.")] = None,
    count: Annotated[int, typer.Option("--windows", min=1)] = 2,
    length: Annotated[int, typer.Option(min=256)] = 2048,
    bits: Annotated[list[int] | None, typer.Option(help="Of keys and values; repeatable.")] = None,
    of: Annotated[int, typer.Option(help="The text is cut into this many windows.")] = 4,
    output: Annotated[Path, typer.Option(help="Where to write JSON.")] = Path(
        "results/trellis-quality.json"
    ),
) -> None:
    """KL, perplexity and top-1 of trellis and scalar codes at equal bits."""
    from tqgen_kernels.demo.model import demo_model

    console = Console()
    loaded = load_model(model or str(demo_model(say=console.print, progress=lambda *args: None)))
    dim = loaded.kv_shapes[0][1]
    layers = len(loaded.kv_shapes)

    def imitation(keys: Code, values: Code) -> Any:
        return lambda _: [Imitation(keys, values) for _ in range(layers)]

    factories = {}
    for b in bits or [2, 3]:
        factories[f"K{b} V{b} scalar"] = imitation(scalar(dim, b, "key"), scalar(dim, b, "value"))
        factories[f"K{b} V{b} trellis"] = imitation(trellis(dim, b), trellis(dim, b))
    steps = Steps(length, length // 2)
    tokens = loaded.tokenizer.encode(
        text.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False
    )
    found: dict[str, list[Agreement]] = {name: [] for name in factories}
    for window in windows(tokens, steps, of)[:count]:
        units = agreement(loaded.model, window, plain_cache, factories, steps, lambda *args: None)
        for name, unit in units.items():
            found[name].append(unit)
        rows = [row(name, each) for name, each in found.items()]
        write_atomically(output, (json.dumps({"rows": rows}, indent=1) + "\n").encode())
        console.print([(r["code"], round(r["KL"], 4)) for r in rows])
    table = Table("code", "perplexity %", "KL", "KL by window", "top-1 %")
    for r in rows:
        by_window = ", ".join(f"{kl:.4f}" for kl in r["KL by window"])
        table.add_row(
            r["code"],
            f"{r['perplexity %']:+.2f}",
            f"{r['KL']:.4f}",
            by_window,
            f"{r['top-1 %']:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
