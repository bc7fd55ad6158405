"""prefill: flash attention of a prompt chunk over packed tiles, then over the exact tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.families import fragment, scoring, vectors
from tqgen_kernels.codegen.families.encode import unpack_tiles
from tqgen_kernels.codegen.family import Arrays, Example, Family, Restriction, Tunable, Verification
from tqgen_kernels.codegen.half_polynomial import half_polynomial
from tqgen_kernels.codegen.problem import PrefillProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant import reference
from tqgen_kernels.quant.codebook import side_kind
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs

HEADER = 8  # numbers of `params` before those of the rows of the batch
_WINDOW = 39  # exact tokens of an example before its chunk
_SMALL_CHUNK = 45  # queries of an example that is for verifying

TUNABLES = (
    Tunable("strips", (2, 1, 4), "strips of 8 query rows of a SIMD group"),
    Tunable("simdgroups", (4, 8, 2), "SIMD groups that share one decoding of the codes"),
    Tunable("buffers", (2, 1), "2: keys and values of a tile each have threadgroup memory"),
    Tunable(
        "resident",
        (12, 8, 16, 0),
        "SIMD groups that the registers of a core should do for; 0: as the compiler likes. Only "
        "CUDA's compiler takes it",
    ),
)
RESTRICTIONS = (
    Restriction(
        "more than 192 registers of a lane: strips x (key_dim + 2 value_dim) / 8",
        lambda p, c: registers(p, c) <= 192,
    ),
)


def registers(p: PrefillProblem, config: Config) -> int:
    """Of a lane, for what lives through the loop: queries and outputs."""
    return int(config["strips"]) * (p.key_dim // 8 + 2 * (p.value_dim // 8))


def _layout(p: PrefillProblem, side: str) -> str:
    return side if p.storage == "tiles" else f"{side}_fragment"


def rows_of_threadgroup(config: Config) -> int:
    """Query rows that share one decoding of the codes."""
    return 8 * int(config["strips"]) * int(config["simdgroups"])


def _sharing(p: PrefillProblem, units: int, simdgroups: int) -> tuple[int, int]:
    """(SIMD groups that decode a unit of 32 coordinates together, turns that each of them has).
    A unit in tiles, whose lanes own tokens or coordinates, has no parts."""
    most = 4 if p.storage == "fragment" else 1
    share = max(s for s in (1, 2, 4) if s <= most and (s == 1 or s * units <= simdgroups))
    return share, ceil(units * share / simdgroups)


def _staged(p: PrefillProblem, config: Config) -> int:
    """Bytes of threadgroup memory for a tile's keys and values as halves."""
    sides = (2 * TILE * p.key_dim, 2 * TILE * p.value_dim)
    return sum(sides) if config["buffers"] == 2 else max(sides)


def _band(p: PrefillProblem, config: Config) -> int:
    """SIMD groups for which the staging memory holds a strip of float vectors."""
    band = int(config["simdgroups"])
    while band > 1 and band * 8 * 4 * max(p.key_dim, p.value_dim) > _staged(p, config):
        band //= 2
    return band


def _context(p: PrefillProblem, config: Config) -> dict[str, Any]:
    found: dict[str, Any] = {
        "scalar": vectors.SCALARS[p.dtype],
        "sinks": p.sinks,
        "storage": p.storage,
        "staged": _staged(p, config) // 16,
        "band": _band(p, config),
    }
    sides = (("key", p.key_dim, p.key_bits), ("value", p.value_dim, p.value_bits))
    for name, dim, bits in sides:
        m, power = factor(dim)
        share, turns = _sharing(p, dim // TILE, int(config["simdgroups"]))
        kind = side_kind(p.codebook, "key" if name == "key" else "value")
        found |= {
            f"{name}_dim": dim,
            f"{name}_bits": bits,
            f"{name}_tile_words": vectors.tile_words(dim, bits, _layout(p, name)),
            f"{name}_polynomial": half_polynomial(dim, bits, kind),
            f"{name}_m": m,
            f"{name}_power": power,
            f"{name}_hadamard": vectors.hadamard_rows(dim, transposed=name == "value"),
            f"{name}_share": share,
            f"{name}_turns": turns,
        }
    return found


def _launch(
    p: PrefillProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads, q_len, _ = shapes["queries"]
    kv_heads = shapes["exact_keys"][1]
    width = TILE * int(config["simdgroups"])
    blocks = ceil(heads // kv_heads * q_len / rows_of_threadgroup(config))
    return Launch(
        grid=(width, blocks, batch * kv_heads),
        threadgroup=(width, 1, 1),
        output_shapes=((batch, heads, q_len, p.value_dim),),
        output_dtypes=(p.dtype,),
    )


def _threadgroup_memory(p: PrefillProblem, config: Config) -> int:
    return _staged(p, config) + (0 if p.dtype == "float16" else 4 * 2 * TILE)


def params(
    rows: Sequence[tuple[int, int]],
    *,
    room: int,
    heads: int,
    gqa: int,
    q_len: int,
    window: int,
    scale: float,
    causal: bool,
) -> tuple[int, ...]:
    """The numbers that the kernel reads, in their order: eight, then two a row of the batch.

    rows: tiles and exact tokens of each; room: tiles that a head has room for; heads and q_len: of
    the queries; gqa: heads that share a kv head; window: exact tokens that a head has room for;
    causal: the newest q_len exact tokens are those of the queries.
    """
    header = (gqa, room, heads, q_len, window, scoring.scale_bits(scale), int(causal), 0)
    return header + tuple(n for row in rows for n in row)


def rows_held(numbers: Any) -> list[tuple[int, int]]:
    """The rows that `params` made these numbers of."""
    return [(tiles, exact) for tiles, exact in np.asarray(numbers)[HEADER:].reshape(-1, 2).tolist()]


def _example(
    p: PrefillProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    """Packed tiles, a few exact tokens and a chunk, with room for 3 tokens more.

    With `tokens`, which is for verifying, the chunk is small and the rows of a batch differ: every
    second one has fewer of everything, and the third one has no tile.
    """
    ragged, tokens = tokens is not None, tokens or p.context
    q_len = min(p.queries, tokens, _SMALL_CHUNK if ragged else tokens)
    exact = min(tokens, q_len + _WINDOW)
    tiles = (tokens - exact) // TILE
    inputs: dict[str, NDArray[Any]] = {}
    for name, dim, bits in (("key", p.key_dim, p.key_bits), ("value", p.value_dim, p.value_bits)):
        words, scales = scoring.example_tiles(p, dim, bits, _layout(p, name), tiles, rng)
        inputs |= {f"{name}_words": words, f"{name}_scales": scales}

    def normal(heads: int, length: int, dim: int) -> NDArray[Any]:
        shape = (p.batch, heads, length, dim)
        return vectors.to_dtype(rng.standard_normal(shape, np.float32), p.dtype)

    exact_inputs = {
        "queries": normal(p.heads, q_len, p.key_dim),
        "exact_keys": normal(p.kv_heads, exact + 3, p.key_dim),
        "exact_values": normal(p.kv_heads, exact + 3, p.value_dim),
        "key_centre": normal(p.kv_heads, 1, p.key_dim),
    }
    if p.sinks:
        exact_inputs["sinks"] = vectors.to_dtype(rng.uniform(-3, 6, p.heads), p.dtype)
    rows = [(tiles, exact)] * p.batch
    if ragged:
        parts = (tiles, tiles // 2, 0)
        rows = [(parts[i % 3], max(q_len, exact - 9 * i)) for i in range(p.batch)]
    numbers = params(
        rows,
        room=tiles + 1,
        heads=p.heads,
        gqa=p.heads // p.kv_heads,
        q_len=q_len,
        window=exact + 3,
        scale=p.key_dim**-0.5,
        causal=True,
    )
    inputs |= exact_inputs | {
        "signs": signs(p.key_dim, scoring.KEY_SEED),
        "value_signs": signs(p.value_dim, scoring.VALUE_SEED),
        "params": np.array(numbers, np.int32),
    }
    return Example(inputs, {}, dict.fromkeys(exact_inputs, p.dtype))


def contents(
    p: PrefillProblem, example: Example, i: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keys and values (1, kv_heads, tokens, dim) of row i of the batch in float64, the packed ones
    first; all keys lack their centre."""
    tiles, exact = rows_held(example.inputs["params"])[i]
    sides = []
    for name, dim, bits, seed in (
        ("key", p.key_dim, p.key_bits, scoring.KEY_SEED),
        ("value", p.value_dim, p.value_bits, scoring.VALUE_SEED),
    ):
        words = example.inputs[f"{name}_words"][i : i + 1, :, :tiles]
        codes = unpack_tiles(words, dim, bits, _layout(p, name))
        scales = example.inputs[f"{name}_scales"][i : i + 1, :, :tiles]
        encoded = reference.Encoded(codes, scales.reshape(codes.shape[:-1]))
        kind = side_kind(p.codebook, "key" if name == "key" else "value")
        packed = reference.decode(encoded, bits, seed, codebook=kind)
        held = np.asarray(example.inputs[f"exact_{name}s"], np.float64)[i : i + 1, :, :exact]
        if name == "key":
            held = held - np.asarray(example.inputs["key_centre"], np.float64)[i : i + 1]
        sides.append(np.concatenate([packed, held], axis=2))
    return sides[0], sides[1]


def expected_output(p: PrefillProblem, example: Example) -> NDArray[np.float64]:
    """The attention (batch, heads, q_len, value_dim) over what the example holds, in float64."""
    rows = range(example.inputs["queries"].shape[0])
    return np.concatenate([_expected_row(p, example, i) for i in rows])


def _expected_row(p: PrefillProblem, example: Example, i: int) -> NDArray[np.float64]:
    keys, values = contents(p, example, i)
    queries = np.asarray(example.inputs["queries"], np.float64)[i : i + 1]
    scale = float(example.inputs["params"][5:6].view(np.float32)[0])
    q_len, tokens = queries.shape[2], keys.shape[2]
    mask = np.zeros((q_len, tokens))
    if example.inputs["params"][6]:
        mask[np.arange(tokens) > tokens - q_len + np.arange(q_len)[:, None]] = -np.inf
    if not p.sinks:
        return reference.attend(queries, keys, values, scale, mask)
    # One more token, which brings no value: its score is the sink less the query times the centre.
    gqa = p.heads // p.kv_heads
    centre = np.asarray(example.inputs["key_centre"], np.float64)[i : i + 1]
    shift = scale * (queries * np.repeat(centre, gqa, axis=1)).sum(-1)
    sink = np.asarray(example.inputs["sinks"], np.float64)[:, None] - shift
    scores = np.broadcast_to(mask, (1, p.heads, q_len, tokens))
    keys, values = (np.concatenate([x, 0 * x[:, :, :1]], axis=2) for x in (keys, values))
    with_sink = np.concatenate([scores, sink[..., None]], axis=-1)
    return reference.attend(queries, keys, values, scale, with_sink)


def _verify(p: PrefillProblem, example: Example, outputs: Arrays) -> Verification:
    """Of half operands, as `attend` over fragment storage; and the rounding of the output."""
    found = np.asarray(outputs["out"], np.float64)
    expected = expected_output(p, example)
    if p.dtype != "bfloat16":
        return fragment.verification(found, expected)
    # Rounding to 8 bits alone is off by up to 4e-3: what a nearest bfloat16 may be, does not count.
    nearest = np.asarray(vectors.to_dtype(expected.astype(np.float32), "bfloat16"), np.float64)
    off = np.maximum(np.abs(found - expected) - 1.02 * np.abs(nearest - expected), 0.0)
    return fragment.verification(expected + off, expected)


def _bytes_moved(p: PrefillProblem) -> int:
    item = 4 if p.dtype == "float32" else 2
    chunk = min(p.queries, p.context)
    bits = p.key_dim * p.key_bits + p.value_dim * p.value_bits + 32
    packed = p.kv_heads * (p.context - chunk) * bits // 8
    dims = p.key_dim + p.value_dim
    return p.batch * (packed + (p.heads + p.kv_heads) * chunk * dims * item)


def _default(p: PrefillProblem) -> Config:
    """Two strips where registers allow it, two buffers where they leave room for two threadgroups
    on a core."""
    strips = 2 if p.key_dim + 2 * p.value_dim <= 384 else 1
    buffers = 2 if p.key_dim + p.value_dim <= 256 else 1
    resident = 12 if buffers == 2 else 8
    return Config.of(strips=strips, simdgroups=4, buffers=buffers, resident=resident)


PREFILL = Family(
    name="prefill",
    problem=PrefillProblem,
    template="prefill/prefill.metal.jinja",
    inputs=(
        "queries",
        "key_words",
        "key_scales",
        "value_words",
        "value_scales",
        "exact_keys",
        "exact_values",
        "key_centre",
        "signs",
        "value_signs",
        "params",
    ),
    extra_inputs=lambda p: ("sinks",) if p.sinks else (),
    outputs=("out",),
    tunables=lambda p: TUNABLES,
    restrictions=RESTRICTIONS,
    default=_default,
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    verify=_verify,
    bytes_moved=_bytes_moved,
    untuned="sdpa",
)
