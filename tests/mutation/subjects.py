"""The kernels that mutants are seeded into, each at a problem that reaches its code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tqgen_kernels.codegen.families import FAMILIES
from tqgen_kernels.codegen.problem import (
    AttendProblem,
    CombineProblem,
    DequantizeProblem,
    EncodeProblem,
    Problem,
    QKScoresProblem,
    family_of,
)
from tqgen_kernels.codegen.space import candidates
from tqgen_kernels.codegen.variant import Config, Value


@dataclass(frozen=True)
class Subject:
    """A variant and the token counts of the examples that it is verified on."""

    name: str
    problem: Problem
    wanted: Mapping[str, Value]
    tokens: tuple[int, ...] = (96,)

    @property
    def config(self) -> Config:
        """The first candidate that has the values wanted."""
        for config in candidates(FAMILIES[family_of(self.problem)], self.problem):
            if self.wanted.items() <= dict(config.values).items():
                return config
        raise ValueError(f"{self.name}: no candidate has {dict(self.wanted)}")


# head_dim 80 is 20 * 4 and 384 is 12 * 32: both halves of the Hadamard transform run. 3 bits cross
# words.
SUBJECTS = (
    Subject(
        "encode one lane",
        EncodeProblem(80, 3, "key", "float32", kv_heads=1),
        {"lanes": 1, "at_once": 32},
    ),
    Subject(
        "encode four lanes",
        EncodeProblem(80, 3, "value", "float16", kv_heads=2),
        {"lanes": 4, "at_once": 8},
    ),
    Subject(
        "encode eight lanes",
        EncodeProblem(384, 3, "key", "float32", kv_heads=1),
        {"lanes": 8, "at_once": 8},
    ),
    Subject(
        "dequantize one lane",
        DequantizeProblem(80, 3, "value", "float32", kv_heads=2),
        {"lanes": 1, "at_once": 32},
    ),
    Subject(
        "dequantize four lanes",
        DequantizeProblem(80, 5, "key", "float32", kv_heads=2),
        {"lanes": 4, "at_once": 8},
    ),
    Subject(
        "dequantize eight lanes",
        DequantizeProblem(384, 3, "key", "float16", kv_heads=2),
        {"lanes": 8, "at_once": 8},
    ),
    Subject(
        "qk_scores token",
        QKScoresProblem(80, 3, gqa=3, q_len=2, dtype="float32", kv_heads=2),
        {"layout": "token", "lookup": "threadgroup", "rows": 4, "simdgroups": 4},
    ),
    Subject(
        "qk_scores dim",
        QKScoresProblem(64, 3, gqa=3, dtype="float32", kv_heads=2),
        {"layout": "dim", "lookup": "constant", "rows": 2, "simdgroups": 2},
    ),
    Subject(
        "attend token",
        AttendProblem(80, 96, 3, 5, gqa=3, q_len=2, dtype="float32", kv_heads=1, batch=2),
        {"layout": "token", "lookup": "threadgroup", "rows": 4, "simdgroups": 2, "groups": 128},
        (33, 330),
    ),
    Subject(
        "attend dim",
        AttendProblem(64, 64, 4, 3, gqa=2, dtype="float32", kv_heads=2, mask="additive", batch=2),
        {"layout": "dim", "lookup": "select", "rows": 2, "simdgroups": 4, "groups": 128},
        (33, 330),
    ),
    Subject(
        "attend fragment",
        AttendProblem(
            64, 96, 4, 3, gqa=3, q_len=2, codebook="cubic", storage="fragment", kv_heads=1, batch=2
        ),
        {"simdgroups": 4, "in_flight": 2, "groups": 128},
        (33, 330),
    ),
    Subject(
        "encode fragments",
        EncodeProblem(64, 3, "value_fragment", "float16", codebook="uniform", kv_heads=1),
        {"lanes": 8, "at_once": 8},
    ),
    Subject(
        "dequantize fragments",
        DequantizeProblem(64, 3, "key_fragment", "float32", codebook="cubic", kv_heads=1),
        {"lanes": 4, "at_once": 32},
    ),
    Subject(
        "combine", CombineProblem(80, "float32", sinks=True, heads=12, batch=2), {}, (103, 330)
    ),
)
