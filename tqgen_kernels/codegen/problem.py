"""What a kernel must do: one frozen dataclass a kernel family.

Fields that change the Metal text come first. `kv_heads`, `batch` and `context` only say at what
size a problem is tuned: the text never depends on them, so that no size recompiles a kernel.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeAlias

from tqgen_kernels.quant.codebook import (
    CodebookKind,
    check_bits,
    check_kind,
    check_pair,
    odd_polynomial,
    side_kind,
)
from tqgen_kernels.quant.fragments import check_fragment_dim
from tqgen_kernels.quant.hadamard import factor
from tqgen_kernels.quant.scheme import check_threshold
from tqgen_kernels.quant.trellis import check_dim

Dtype = Literal["float32", "float16", "bfloat16"]
Layout = Literal["key", "value", "key_fragment", "value_fragment"]
Storage = Literal["tiles", "fragment"]
Mask = Literal["none", "boolean", "additive"]
DTYPES = ("float32", "float16", "bfloat16")
LAYOUTS: tuple[Layout, ...] = ("key", "value", "key_fragment", "value_fragment")
STORAGES = ("tiles", "fragment")
MASKS = ("none", "boolean", "additive")
EXACT = 16  # bits of a side of attend that is not packed but as it came, in the problem's dtype
MAX_Q_LEN = 8
MAX_GQA = 16
MAX_PREFILL_DIM = 256
QUERY_BUCKETS = (32, 128, 512, 2048)
CONTEXT_BUCKETS = (1024, 4096, 16384, 65536, 262144, 1048576)


def context_bucket(tokens: int) -> int:
    """The smallest bucket that holds `tokens`, or the largest bucket."""
    return next((b for b in CONTEXT_BUCKETS if tokens <= b), CONTEXT_BUCKETS[-1])


def query_bucket(queries: int) -> int:
    """The smallest bucket that holds `queries`, or the largest bucket."""
    return next((b for b in QUERY_BUCKETS if queries <= b), QUERY_BUCKETS[-1])


def batch_bucket(batch: int) -> int:
    """The smallest power of two that is at least `batch`."""
    return 1 << max(batch - 1, 0).bit_length()


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported: use one of {', '.join(DTYPES)}.")


def _check_counts(problem: Any, **limits: int) -> None:
    for name, most in limits.items():
        value = getattr(problem, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{name} {value!r} is not supported: give an integer 1 to {most}.")


def _check_layout(layout: str, head_dim: int) -> None:
    if layout not in LAYOUTS:
        raise ValueError(
            f"layout {layout!r} is not supported: use 'key' or 'value' tiles, or 'key_fragment' or "
            "'value_fragment'."
        )
    if layout.endswith("_fragment"):
        check_fragment_dim(head_dim)


def _check_storage(problem: AttendProblem) -> None:
    if problem.storage not in STORAGES:
        raise ValueError(
            f"storage {problem.storage!r} is not supported: use 'tiles' or 'fragment'."
        )
    if problem.mask not in MASKS:
        raise ValueError(f"mask {problem.mask!r} is not supported: use one of {', '.join(MASKS)}.")
    if problem.fresh and problem.mask != "none":
        raise ValueError(f"mask {problem.mask!r} takes no fresh tokens: write them first.")
    exact = (problem.key_bits == EXACT) + (problem.value_bits == EXACT)
    if exact == 2 or (exact and problem.storage != "tiles"):
        raise ValueError(
            f"{EXACT} bits, which leave a side as it came, are for one of the two sides, and for "
            "storage 'tiles'."
        )
    if problem.fresh and exact:
        raise ValueError(f"A side of {EXACT} bits takes no fresh tokens: write them first.")
    if problem.storage == "fragment":
        names: tuple[Literal["key", "value"], ...] = ("key", "value")
        for name in names:
            dim, bits = getattr(problem, f"{name}_dim"), getattr(problem, f"{name}_bits")
            check_fragment_dim(dim, f"{name}_dim")
            odd_polynomial(dim, bits, side_kind(problem.codebook, name))


def _check_vectors(problem: EncodeProblem | DequantizeProblem) -> None:
    factor(problem.head_dim)
    check_bits(problem.bits)
    _check_dtype(problem.dtype)
    check_kind(problem.codebook)
    _check_layout(problem.layout, problem.head_dim)
    _check_counts(problem, kv_heads=4096, batch=4096, context=2**24)


def _check_trellis(problem: TrellisEncodeProblem | TrellisDequantizeProblem) -> None:
    factor(problem.head_dim)
    check_dim(problem.head_dim, problem.bits)
    _check_dtype(problem.dtype)
    _check_counts(problem, kv_heads=4096, batch=4096, context=2**24)


@dataclass(frozen=True)
class EncodeProblem:
    """Vectors (batch, kv_heads, 32 n, head_dim) to tiles of codes and scales."""

    head_dim: int
    bits: int
    layout: Layout = "key"
    dtype: Dtype = "float16"
    norm_correction: bool = True
    codebook: CodebookKind = "lloyd-max"
    kv_heads: int = 8
    batch: int = 1
    context: int = 1024

    def __post_init__(self) -> None:
        _check_vectors(self)


@dataclass(frozen=True)
class DequantizeProblem:
    """Tiles of codes and scales to vectors, in the rotated basis or un-rotated."""

    head_dim: int
    bits: int
    layout: Layout = "key"
    dtype: Dtype = "float16"
    rotated: bool = False
    codebook: CodebookKind = "lloyd-max"
    kv_heads: int = 8
    batch: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        _check_vectors(self)


@dataclass(frozen=True)
class TrellisEncodeProblem:
    """Vectors (batch, kv_heads, 32 n, head_dim) to tiles of trellis codes and corrected scales.

    A candidate (quant/trellis.py): no cache uses it. The words lie as those of layout "key".
    """

    head_dim: int
    bits: int
    dtype: Dtype = "float16"
    kv_heads: int = 8
    batch: int = 1
    context: int = 1024

    def __post_init__(self) -> None:
        _check_trellis(self)


@dataclass(frozen=True)
class TrellisDequantizeProblem:
    """Tiles of trellis codes and scales to vectors, un-rotated."""

    head_dim: int
    bits: int
    dtype: Dtype = "float16"
    kv_heads: int = 8
    batch: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        _check_trellis(self)


@dataclass(frozen=True)
class QKScoresProblem:
    """Scores (batch, kv_heads * gqa, q_len, 32 n), float32, of queries and packed keys."""

    head_dim: int
    bits: int
    gqa: int = 1
    q_len: int = 1
    dtype: Dtype = "float16"
    codebook: CodebookKind = "lloyd-max"
    kv_heads: int = 8
    batch: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        factor(self.head_dim)
        check_bits(self.bits)
        _check_dtype(self.dtype)
        check_kind(self.codebook)
        _check_counts(self, gqa=MAX_GQA, q_len=MAX_Q_LEN, kv_heads=4096, batch=4096, context=2**24)


@dataclass(frozen=True)
class AttendProblem:
    """Flash decode over packed keys and values and the exact window: one partial a split.

    storage: what the cache holds: "tiles" (layouts "key" and "value"), or "fragment"
    ("key_fragment" and "value_fragment"), for the 8x8 matrix unit.
    key_bits, value_bits: 1 to 8, or EXACT for one of them, in storage "tiles".
    mask: "none" is causal over the newest q_len tokens; the others are an input that says all.
    fresh: the newest q_len tokens are not in the window yet but inputs of their own, and the window
    with them in it is an output: the write of a decode step.
    value_threshold: a softmax weight, 0 to 1; the values of a tile all of whose weights are below
    it are not read. 0: all are read.
    """

    key_dim: int
    value_dim: int
    key_bits: int
    value_bits: int
    gqa: int = 1
    q_len: int = 1
    dtype: Dtype = "float16"
    codebook: CodebookKind = "lloyd-max"
    storage: Storage = "tiles"
    mask: Mask = "none"
    fresh: bool = False
    value_threshold: float = 0.0
    kv_heads: int = 8
    batch: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        for dim in (self.key_dim, self.value_dim):
            factor(dim)
        for name in ("key_bits", "value_bits"):
            if getattr(self, name) != EXACT:
                check_bits(getattr(self, name), name)
        _check_dtype(self.dtype)
        check_pair(self.codebook)
        _check_storage(self)
        check_threshold(self.value_threshold)
        _check_counts(self, gqa=MAX_GQA, q_len=MAX_Q_LEN, kv_heads=4096, batch=4096, context=2**24)


@dataclass(frozen=True)
class CombineProblem:
    """Partials of `attend` to the output (batch, heads, q_len, value_dim), un-rotated.

    sinks: each head has a learned logit that takes weight and brings no value (gpt-oss).
    exact: of values that are not packed, so that no partial is rotated.
    """

    value_dim: int
    dtype: Dtype = "float16"
    sinks: bool = False
    exact: bool = False
    heads: int = 32
    batch: int = 1
    context: int = 4096

    def __post_init__(self) -> None:
        factor(self.value_dim)
        _check_dtype(self.dtype)
        _check_counts(self, heads=65536, batch=4096, context=2**24)


@dataclass(frozen=True)
class PrefillProblem:
    """Flash attention of a prompt chunk over packed tiles, then over the exact tokens, to the
    output (batch, heads, queries, value_dim).

    storage: as of AttendProblem; head_dims are multiples of 32 with both, and codebooks decode by
    arithmetic. sinks: as of CombineProblem. queries: of the chunk, more than 8; like the heads a
    size only.
    """

    key_dim: int
    value_dim: int
    key_bits: int
    value_bits: int
    dtype: Dtype = "float16"
    codebook: CodebookKind = "mixed"
    storage: Storage = "fragment"
    sinks: bool = False
    heads: int = 32
    kv_heads: int = 8
    batch: int = 1
    queries: int = 2048
    context: int = 16384

    def __post_init__(self) -> None:
        _check_dtype(self.dtype)
        check_pair(self.codebook)
        names: tuple[Literal["key", "value"], ...] = ("key", "value")
        for name in names:
            dim, bits = getattr(self, f"{name}_dim"), getattr(self, f"{name}_bits")
            factor(dim)
            check_bits(bits)
            odd_polynomial(dim, bits, side_kind(self.codebook, name))
            if dim % 32 or dim > MAX_PREFILL_DIM:
                raise ValueError(
                    f"{name}_dim {dim} is not supported: prefill takes multiples of 32 up to "
                    f"{MAX_PREFILL_DIM}; other vectors are dequantised."
                )
        if self.storage not in STORAGES:
            raise ValueError(
                f"storage {self.storage!r} is not supported: use 'tiles' or 'fragment'."
            )
        _check_counts(self, heads=65536, kv_heads=4096, batch=4096, queries=2**24, context=2**24)
        if self.heads % self.kv_heads:
            raise ValueError(
                f"heads {self.heads} is not supported: give a multiple of kv_heads {self.kv_heads}."
            )


Problem: TypeAlias = (
    EncodeProblem
    | DequantizeProblem
    | TrellisEncodeProblem
    | TrellisDequantizeProblem
    | QKScoresProblem
    | AttendProblem
    | CombineProblem
    | PrefillProblem
)

FAMILY_OF: dict[type, str] = {
    EncodeProblem: "encode",
    DequantizeProblem: "dequantize",
    TrellisEncodeProblem: "trellis_encode",
    TrellisDequantizeProblem: "trellis_dequantize",
    QKScoresProblem: "qk_scores",
    AttendProblem: "attend",
    CombineProblem: "combine",
    PrefillProblem: "prefill",
}
# Named only where they differ.
_OFF: dict[str, object] = dict.fromkeys(("fresh", "sinks", "exact"), False)
_UNSPELLED = _OFF | {"mask": "none", "value_threshold": 0.0}
_PROBLEMS = {family: cls for cls, family in FAMILY_OF.items()}


def family_of(problem: Problem) -> str:
    """The name of the kernel family that a problem belongs to."""
    return FAMILY_OF[type(problem)]


def format_problem(problem: Problem) -> str:
    """One line that `parse_problem` reads back: attend:key_dim=128,... Every field is named, but
    for a mask, fresh tokens, sinks or a threshold where there are none."""
    named = {k: v for k, v in asdict(problem).items() if (k, v) not in _UNSPELLED.items()}
    pairs = ",".join(f"{name}={value}" for name, value in named.items())
    return f"{family_of(problem)}:{pairs}"


def parse_problem(text: str) -> Problem:
    """A problem from `family:field=value,...`; fields with a default may be left out.

    Raises ValueError that names the families, the fields, or the value that is not allowed.
    """
    family, _, rest = text.strip().partition(":")
    if family not in _PROBLEMS:
        raise ValueError(f"kernel family {family!r} is unknown: use one of {', '.join(_PROBLEMS)}.")
    cls = _PROBLEMS[family]
    types = {f.name: str(f.type) for f in fields(cls)}
    values: dict[str, Any] = {}
    for pair in filter(None, re.split(r"[,\s]+", rest)):
        name, separator, value = pair.partition("=")
        if not separator or name not in types:
            raise ValueError(f"{pair!r} is no field=value of {family}: it has {', '.join(types)}.")
        values[name] = _parse_value(name, value, types[name])
    try:
        problem: Problem = cls(**values)
        return problem
    except TypeError as error:
        raise ValueError(f"{text!r} is no {family} problem: {error}.") from None


def _parse_value(name: str, value: str, kind: str) -> int | float | bool | str:
    if kind == "int" and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    if kind == "float" and re.fullmatch(r"\d(\.\d{1,17})?(e-\d{1,2})?", value):
        return float(value)
    if kind == "bool" and value in ("True", "true", "False", "false"):
        return value in ("True", "true")
    if kind in ("Dtype", "Layout", "CodebookKind", "Storage", "Mask"):
        return value
    wanted = {"int": "a whole number", "float": "a number"}.get(kind, kind)
    raise ValueError(f"{name}={value!r} is not {wanted}.")
