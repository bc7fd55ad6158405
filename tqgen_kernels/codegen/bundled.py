"""The problems whose default variants are checked in, and for which tuning records may ship."""

from __future__ import annotations

from functools import lru_cache

from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    QKScoresProblem,
)

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
_BITS = ((4, 3), (3, 3), (4, 4), (2, 2))  # the named schemes


@lru_cache(maxsize=1)
def bundled_problems() -> tuple[Problem, ...]:
    """In float16, one query, the default context: the text depends on neither size."""
    dims = sorted({dim for dim, _ in _SHAPES})
    problems: list[Problem] = []
    for dim in dims:
        for bits in sorted({b for pair in _BITS for b in pair}):
            for layout in ("key", "value"):
                problems.append(EncodeProblem(dim, bits, layout))
                problems.append(DequantizeProblem(dim, bits, layout))
        problems.append(CombineProblem(dim))
    for dim, gqa in _SHAPES:
        problems.append(QKScoresProblem(dim, 4, gqa=gqa))
        problems.extend(AttendProblem(dim, dim, k, v, gqa=gqa) for k, v in _BITS)
    return tuple(problems)
