"""attend: flash decode over packed keys and values and the exact window, split over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tqgen_kernels.codegen.families import fragment, scoring, vectors
from tqgen_kernels.codegen.families.attend_reference import attention_of_row
from tqgen_kernels.codegen.families.combine import MAX_SPLITS
from tqgen_kernels.codegen.family import Arrays, Example, Family, Restriction, Tunable, Verification
from tqgen_kernels.codegen.problem import EXACT, AttendProblem
from tqgen_kernels.codegen.variant import Config, Launch, Shape
from tqgen_kernels.quant.codebook import codebook, side_kind
from tqgen_kernels.quant.packing import TILE
from tqgen_kernels.quant.rotation import signs, unrotate

_GROUPS = Tunable(
    "groups", (512, 128, 2048), "threadgroups aimed at by splitting the tokens; not in the text"
)


HEADER = 15  # numbers of `params` before those of the rows


_LEADING, _GONE = 4, 5  # of the exact side of examples


class Row(NamedTuple):
    """What one row of a batch holds: tiles, exact tokens, and how many packed tokens at the start
    of the first tiles a sliding window has left behind."""

    tiles: int
    exact: int
    unseen: int = 0

    @property
    def live_tiles(self) -> int:
        """Tiles that hold a token that is seen."""
        return self.tiles - self.unseen // TILE

    @property
    def packed(self) -> int:
        """Packed tokens that are seen."""
        return self.tiles * TILE - self.unseen


def layouts(p: AttendProblem) -> tuple[str, str]:
    """How the problem's storage lays out keys and values."""
    return ("key_fragment", "value_fragment") if p.storage == "fragment" else ("key", "value")


def splits_for(problem: AttendProblem, config: Config, pairs: int, tiles: int) -> tuple[int, int]:
    """(splits, tiles of a split) for `pairs` = batch * kv_heads, where the longest row has `tiles`;
    no split of that row is empty.

    The exact window is one more threadgroup. A split's tiles are a multiple of its SIMD groups, so
    that none of these waits for another.
    """
    if tiles == 0:
        return 0, 0
    simdgroups = int(config["simdgroups"])
    wanted = int(config["groups"]) // (pairs * scoring.passes(problem, config)) - 1
    each = ceil(tiles / max(1, min(MAX_SPLITS, wanted)))
    each = ceil(each / simdgroups) * simdgroups
    return ceil(tiles / each), each


def _tunables(p: AttendProblem) -> tuple[Tunable, ...]:
    if p.storage == "fragment":
        return fragment.TUNABLES
    return (scoring.LAYOUT, scoring.LOOKUP, scoring.ROWS, scoring.SIMDGROUPS, _GROUPS)


def _for_storage(storage: str, each: Restriction) -> Restriction:
    return Restriction(each.reason, lambda p, c: p.storage != storage or each.allows(p, c))


def _context(p: AttendProblem, config: Config) -> dict[str, Any]:
    if p.storage == "fragment":
        return fragment.context(p, config)
    return {
        "template": "attend",
        **scoring.context(p, config, p.key_dim, p.key_bits),
        "q_len": p.q_len,
        "gqa": p.gqa,
        "mask": p.mask,
        "fresh": p.fresh,
        "scalar": vectors.SCALARS[p.dtype],
        "value_threshold": p.value_threshold,
        "value_dim": p.value_dim,
        **_value_context(p),
    }


def _value_context(p: AttendProblem) -> dict[str, Any]:
    if p.value_bits == EXACT:
        return {"value_bits": 0}
    return {
        "value_bits": p.value_bits,
        "value_tile_words": vectors.tile_words(p.value_dim, p.value_bits, "value"),
        "value_centroids": list(
            codebook(p.value_dim, p.value_bits, side_kind(p.codebook, "value"))
        ),
    }


def _launch(
    p: AttendProblem, config: Config, shapes: Mapping[str, Shape], scalars: Mapping[str, int]
) -> Launch:
    batch, heads, q_len, _ = shapes["queries"]
    parts = scalars["splits"] + 1
    width = TILE * int(config["simdgroups"])
    pairs = batch * heads // p.gqa * scoring.passes(p, config)
    rows = batch * heads * q_len
    windows = (shapes["exact_keys"], shapes["exact_values"]) if p.fresh else ()
    return Launch(
        grid=(width, parts, pairs),
        threadgroup=(width, 1, 1),
        output_shapes=((rows, parts, p.value_dim), (rows, parts, 2), *windows),
        output_dtypes=("float32", "float32", *(p.dtype for _ in windows)),
    )


def _threadgroup_memory(p: AttendProblem, config: Config) -> int:
    if p.storage == "fragment":
        return fragment.threadgroup_memory(p, config)
    rows, simdgroups = int(config["rows"]), int(config["simdgroups"])
    floats = rows * max(p.key_dim, p.value_dim) + simdgroups * rows * (TILE + 2)
    floats += rows * p.key_dim if config["layout"] == "token" else 0
    if config["lookup"] == "threadgroup":
        floats += sum(1 << bits for bits in (p.key_bits, p.value_bits) if bits != EXACT)
    return 4 * floats


def params(
    rows: Sequence[Row],
    *,
    room: int,
    each: int,
    heads: int,
    gqa: int,
    q_len: int,
    key_dim: int,
    window: int,
    scale: float,
    splits: int,
    mask_strides: tuple[int, int, int] = (0, 0, 0),
    exact_side: tuple[int, int, int] = (0, 0, 0),
) -> tuple[int, ...]:
    """The numbers that attend and combine read, in their order: HEADER, then three a row.

    room: tiles that a head has room for; each: tiles of a split; heads and q_len: of the queries;
    gqa: heads that share a kv head; window: tokens that the exact window has room for.
    exact_side: of a side that is not packed, the tokens that it has room for, those at its start
    that come before the packed ones of the other side, and those after them that were dropped.
    """
    header = (gqa, room, each, heads, window, scoring.scale_bits(scale), splits, q_len, key_dim)
    table = (n for row in rows for n in (row.unseen, row.tiles, row.exact))
    return (*header, *mask_strides, *exact_side, *table)


def rows_of(numbers: Any) -> list[Row]:
    """The rows that `params` made these numbers of."""
    table = np.asarray(numbers)[HEADER:].reshape(-1, 3).tolist()
    return [Row(tiles, exact, unseen) for unseen, tiles, exact in table]


def _example_rows(p: AttendProblem, tiles: int, exact: int, ragged: bool) -> list[Row]:
    """A row for each sequence of the batch, the first one the longest. ragged: no two are alike,
    every second one lacks tokens at its start, and the last one of three has no tile."""
    if not ragged:
        return [Row(tiles, exact)] * p.batch
    unseen = (0, 62, 5)
    rows = []
    for i in range(p.batch):
        left = tiles * (p.batch - i) // p.batch if i < 2 else 0
        rows.append(Row(left, max(p.q_len, exact - 9 * i), unseen[i % 3] if left > 1 else 0))
    return rows


def _example(
    p: AttendProblem,
    rng: np.random.Generator,
    tokens: int | None = None,
    config: Config | None = None,
) -> Example:
    """Packed tiles and an exact window with room for 3 tokens more than it holds.

    With `tokens`, which is for verifying, the rows of a batch are of different lengths.
    """
    ragged, tokens = tokens is not None, tokens or p.context
    exact = max(p.q_len, min(tokens, 70))
    tiles = max(0, (tokens - exact) // TILE)
    window = exact + 3
    inputs = {"queries": scoring.example_queries(p, p.key_dim, rng)}
    for side, layout in zip(("key", "value"), layouts(p), strict=True):
        dim, bits = getattr(p, f"{side}_dim"), getattr(p, f"{side}_bits")
        room = window if bits != EXACT else window + _GONE + tiles * TILE
        held = rng.standard_normal((p.batch, p.kv_heads, room, dim), np.float32)
        inputs[f"exact_{side}s"] = vectors.to_dtype(held, p.dtype)
        if bits != EXACT:
            words, scales = scoring.example_tiles(p, dim, bits, layout, tiles, rng)
            inputs |= {f"{side}_words": words, f"{side}_scales": scales}
    if p.value_threshold:
        _make_some_tiles_matter(p, inputs)
    centre = rng.standard_normal((p.batch, p.kv_heads, 1, p.key_dim), np.float32)
    centre = centre if p.key_bits != EXACT else np.zeros_like(centre)
    inputs |= {
        "key_centre": vectors.to_dtype(centre, p.dtype),
        "signs": signs(p.key_dim, scoring.KEY_SEED),
    }
    casts = dict.fromkeys(("queries", "exact_keys", "exact_values", "key_centre"), p.dtype)
    rows = _example_rows(p, tiles, exact, ragged)
    if p.mask != "none":
        inputs["mask"] = _example_mask(p, tiles * TILE + exact, rng)
    if p.fresh:
        rows = [row._replace(exact=row.exact - p.q_len) for row in rows]
        inputs |= _example_fresh(p, rng)
        casts |= dict.fromkeys(("fresh_keys", "fresh_values"), p.dtype)
    example = Example(inputs, {"tiles": tiles, "exact": exact}, casts)
    return _with_rows(p, example, rows, config or _default(p))


def _example_fresh(p: AttendProblem, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    shape = (p.batch, p.kv_heads, p.q_len)
    return {
        name: vectors.to_dtype(rng.standard_normal((*shape, dim), np.float32), p.dtype)
        for name, dim in (("fresh_keys", p.key_dim), ("fresh_values", p.value_dim))
    }


def _make_some_tiles_matter(p: AttendProblem, inputs: dict[str, NDArray[Any]]) -> None:
    """Large keys for every third tile; the others, whose keys are small, may be left out."""
    if p.key_bits == EXACT:
        keys = inputs["exact_keys"]
        inputs["exact_keys"] = (
            np.where(np.arange(keys.shape[2])[:, None] // TILE % 3, 0.02, 3) * keys
        )
        inputs["exact_keys"] = inputs["exact_keys"].astype(keys.dtype)
        return
    scales = inputs["key_scales"]
    factor = np.where(np.arange(scales.shape[2]) % 3, 0.02, 4)[:, None]
    inputs["key_scales"] = (scales * factor).astype(np.float16)


def _example_mask(p: AttendProblem, tokens: int, rng: np.random.Generator) -> NDArray[Any]:
    """Hides every second token or so, never all: boolean the same for all heads, additive the same
    for all queries."""
    axes = (1, p.q_len) if p.mask == "boolean" else (p.kv_heads * p.gqa, 1)
    seen = rng.random((p.batch, *axes, tokens)) < 0.5
    seen[..., ::7] = True
    seen[..., tokens // 8 : tokens // 2] = False  # whole tiles of them
    if p.mask == "boolean":
        return seen
    return np.where(seen, rng.uniform(-3, 3, seen.shape), -np.inf).astype(np.float16)


def mask_strides(shape: Shape) -> tuple[int, int, int]:
    """Over batch, query heads and queries, of a contiguous mask (B or 1, Hq or 1, L or 1, T)."""
    batch, heads, q_len, tokens = shape
    steps = (heads * q_len * tokens, q_len * tokens, tokens)
    batch_step, head_step, query_step = (
        step if size > 1 else 0 for step, size in zip(steps, (batch, heads, q_len), strict=True)
    )
    return batch_step, head_step, query_step


def _adapt(p: AttendProblem, example: Example, config: Config) -> Example:
    """The example with the splits that `config` asks for."""
    return _with_rows(p, example, rows_of(example.inputs["params"]), config)


def _with_rows(p: AttendProblem, example: Example, rows: Sequence[Row], config: Config) -> Example:
    tiles, exact = example.scalars["tiles"], example.scalars["exact"]
    splits, each = splits_for(p, config, p.batch * p.kv_heads, tiles)
    exact_side = (0, 0, 0)
    if EXACT in (p.key_bits, p.value_bits):
        room = exact + 3 + _GONE + tiles * TILE
        exact_side = (room, min(_LEADING, exact), _GONE)
    numbers = params(
        rows,
        room=tiles + 1,
        each=each,
        heads=p.kv_heads * p.gqa,
        gqa=p.gqa,
        q_len=p.q_len,
        key_dim=p.key_dim,
        window=exact + 3,
        scale=p.key_dim**-0.5,
        splits=splits,
        mask_strides=(0, 0, 0) if p.mask == "none" else mask_strides(example.inputs["mask"].shape),
        exact_side=exact_side,
    )
    inputs = {**example.inputs, "params": np.array(numbers, np.int32)}
    return replace(example, inputs=inputs, scalars={**example.scalars, "splits": splits})


def expected_output(p: AttendProblem, example: Example) -> NDArray[np.float64]:
    """The attention (batch, heads, q_len, value_dim) over what the example holds, in float64."""
    return _expected(p, example)[0]


def _expected(p: AttendProblem, example: Example) -> tuple[NDArray[np.float64], ...]:
    """It, and how far off each query's may be where values below the threshold are left out."""
    rows = rows_of(example.inputs["params"])
    found = [attention_of_row(p, example, i, row) for i, row in enumerate(rows)]
    return np.stack([out for out, _ in found]), np.stack([lost for _, lost in found])


def _verify(p: AttendProblem, example: Example, outputs: Arrays) -> Verification:
    """Merges the partials as combine would, in float64."""
    expected, lost = _expected(p, example)
    partials = np.asarray(outputs["partials"], np.float64)
    largest, total = np.moveaxis(np.asarray(outputs["statistics"], np.float64), -1, 0)
    weight = np.exp2(largest - largest.max(-1, keepdims=True))
    parts = partials * weight[..., None]
    packed = parts[:, :-1].sum(1)
    merged = packed if p.value_bits == EXACT else unrotate(packed, scoring.VALUE_SEED)
    merged = (merged + parts[:, -1]) / (weight * total).sum(-1, keepdims=True)
    merged = merged.reshape(expected.shape)
    if p.fresh and not _windows_are_right(p, example, outputs):
        return Verification(np.inf, 0.0, "the windows that are written, exactly")
    if p.value_threshold:
        error = merged - expected
        length = np.linalg.norm(error, axis=-1, keepdims=True)
        merged = expected + error * (1 - np.minimum(1, lost[..., None] / np.maximum(length, 1e-30)))
    if p.storage == "fragment":
        return fragment.verification(merged, expected)
    return vectors.relative_l2(merged, expected, 2e-5)


def _windows_are_right(p: AttendProblem, example: Example, outputs: Arrays) -> bool:
    """Whether each row's window is what it was, with the fresh tokens after its last one."""
    for side in ("keys", "values"):
        expected = np.array(example.inputs[f"exact_{side}"])
        fresh = example.inputs[f"fresh_{side}"]
        for i, row in enumerate(rows_of(example.inputs["params"])):
            expected[i, :, row.exact : row.exact + p.q_len] = fresh[i]
        if not np.array_equal(outputs[f"window_{side}"], expected):
            return False
    return True


def _extra_inputs(p: AttendProblem) -> tuple[str, ...]:
    keys = () if p.key_bits == EXACT else ("key_words", "key_scales")
    values = () if p.value_bits == EXACT else ("value_words", "value_scales")
    exact = ("exact_keys", "exact_values", "key_centre", "signs", "params")
    fresh = ("fresh_keys", "fresh_values") if p.fresh else ()
    mask = () if p.mask == "none" else ("mask",)
    return (*keys, *values, *exact, *fresh, *mask)


def _bytes_moved(p: AttendProblem) -> int:
    bits = p.key_dim * p.key_bits + p.value_dim * p.value_bits + 32
    return p.batch * p.kv_heads * p.context * bits // 8


def _default(p: AttendProblem) -> Config:
    """As many rows as share a head, and the threadgroup memory allows."""
    if p.storage == "fragment":
        return fragment.default(p)
    wide = max(p.key_dim, p.value_dim) > 256
    rows = min(4 if wide else 8, 1 << (p.gqa * p.q_len - 1).bit_length())
    layout = "dim" if p.key_bits == EXACT else "token"
    return Config.of(layout=layout, lookup="threadgroup", rows=rows, simdgroups=4, groups=512)


ATTEND = Family(
    name="attend",
    problem=AttendProblem,
    template="attend/{template}.metal.jinja",
    inputs=("queries",),
    extra_inputs=_extra_inputs,
    outputs=("partials", "statistics"),
    extra_outputs=lambda p: ("window_keys", "window_values") if p.fresh else (),
    tunables=_tunables,
    restrictions=(
        *(_for_storage("tiles", r) for r in scoring.lookup_restrictions("key_bits", "value_bits")),
        *(_for_storage("fragment", r) for r in fragment.RESTRICTIONS),
    ),
    default=_default,
    context=_context,
    launch=_launch,
    threadgroup_memory=_threadgroup_memory,
    example=_example,
    adapt=_adapt,
    verify=_verify,
    bytes_moved=_bytes_moved,
)
