"""The problems whose default variants are checked in, and for which tuning records may ship."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tqgen_kernels.codegen.problem import (
    LAYOUTS,
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Layout,
    PrefillProblem,
    Problem,
    QKScoresProblem,
    Storage,
)
from tqgen_kernels.quant.codebook import side_kind

# (head_dim, gqa) of models that people run: SmolLM2, Llama 3.2 1B, gpt-oss; Phi-2; Phi-3;
# Llama 3, Qwen 2.5 and 3, Mistral; DeepSeek-V2 keys; Gemma 3.
_SHAPES = (
    (64, 3),
    (64, 4),
    (64, 8),
    (80, 1),
    (96, 1),
    (128, 1),
    (128, 4),
    (128, 7),
    (128, 8),
    (256, 4),
)
_BITS = ((4, 3), (4, 2), (4, 4), (3, 3), (2, 2))  # the named schemes


_CODEBOOK: Final = "mixed"  # of the default scheme
_FRAGMENT_DIMS = (64, 128, 256)
_FRAGMENT_BITS = ((4, 3), (4, 2), (3, 3))


@lru_cache(maxsize=1)
def bundled_problems() -> tuple[Problem, ...]:
    """In float16, one query, the default context: the text depends on neither size."""
    problems: list[Problem] = []
    for dim in sorted({dim for dim, _ in _SHAPES}):
        for bits in sorted({b for pair in _BITS for b in pair}):
            layouts: tuple[Layout, ...] = ("key", "value")
            if dim in _FRAGMENT_DIMS and bits in (2, 3, 4):
                layouts = LAYOUTS
            for layout in layouts:
                kind = side_kind(_CODEBOOK, "key" if layout.startswith("key") else "value")
                problems.append(EncodeProblem(dim, bits, layout, codebook=kind))
                problems.append(DequantizeProblem(dim, bits, layout, codebook=kind))
        problems.append(CombineProblem(dim))
    for dim, gqa in _SHAPES:
        problems.append(QKScoresProblem(dim, 4, gqa=gqa, codebook=side_kind(_CODEBOOK, "key")))
        for key_bits, value_bits in _BITS:
            problems.append(_attend(dim, key_bits, value_bits, gqa, "tiles"))
        if dim in _FRAGMENT_DIMS:
            for key_bits, value_bits in _FRAGMENT_BITS:
                problems.append(_attend(dim, key_bits, value_bits, gqa, "fragment"))
    for dim in _FRAGMENT_DIMS:
        problems.append(PrefillProblem(dim, dim, *_FRAGMENT_BITS[0], codebook=_CODEBOOK))
    problems.append(PrefillProblem(128, 128, *_BITS[0], codebook=_CODEBOOK, storage="tiles"))
    return tuple(problems)


def _attend(dim: int, key_bits: int, value_bits: int, gqa: int, storage: Storage) -> AttendProblem:
    return AttendProblem(
        dim, dim, key_bits, value_bits, gqa=gqa, codebook=_CODEBOOK, storage=storage
    )
