"""The mutants themselves, and a few of them judged; `python -m tests.mutation` judges hundreds."""

from itertools import islice

import pytest

from tests.mutation.judge import Bench
from tests.mutation.mutants import mutants_of
from tests.mutation.subjects import SUBJECTS, Subject

HEADER = """constexpr constant int N = 32;
template <int BITS> inline uint low(uint x) { return x & ((1u << BITS) - 1u); }
"""
SOURCE = """threadgroup float s[N];
uint lane = thread_index_in_simdgroup;
s[lane] = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = 1; i < N; ++i) {
  s[lane] += a - i;
}
"""


def test_every_kind_of_mutant_is_made_once_for_each_place() -> None:
    made = [(m.operator, m.part, m.line, m.before, m.after) for m in mutants_of(HEADER, SOURCE)]
    assert len(made) == len({m.text for m in mutants_of(HEADER, SOURCE)})
    for expected in (
        ("mask", "header", 2, "&", "|"),
        ("shift reversed", "header", 2, "<<", ">>"),
        ("barrier removed", "source", 4, "threadgroup_barrier(mem_flags::mem_threadgroup)",
         "((void)0)"),
        ("barrier weakened", "source", 4, "threadgroup_barrier(mem_flags::mem_threadgroup)",
         "threadgroup_barrier(mem_flags::mem_none)"),
        ("wrong lane", "source", 2, "thread_index_in_simdgroup", "(thread_index_in_simdgroup ^ 1)"),
        ("constant off by one", "source", 5, "1", "2"),
        ("bound off by one", "source", 5, "<", "<="),
        ("other assignment", "source", 6, "+=", "-="),
        ("assignment dropped", "source", 6, "+= a - i", "+= 0"),
        ("operands swapped", "source", 6, "a - i", "i - a"),
    ):  # fmt: skip
        assert expected in made
    assert not [m for m in made if m[1:3] == ("header", 1)]  # a constant is no code


def test_a_mutant_changes_one_place_and_no_line_number() -> None:
    parts = {"header": HEADER, "source": SOURCE}
    for mutant in mutants_of(HEADER, SOURCE):
        before, after = (t.split("\n") for t in (parts[mutant.part], mutant.text))
        changed = [n for n, pair in enumerate(zip(before, after, strict=True), 1)
                   if pair[0] != pair[1]]  # fmt: skip
        assert changed == [mutant.line]


JUDGED = ("encode four lanes", "dequantize four lanes", "combine")


def test_the_subjects_judged_here_exist() -> None:
    assert set(JUDGED) <= {subject.name for subject in SUBJECTS}


@pytest.mark.parametrize("subject", [s for s in SUBJECTS if s.name in JUDGED], ids=lambda s: s.name)
def test_verification_notices_mutants(subject: Subject) -> None:
    bench = Bench(subject)
    assert bench.verify(bench.variant).how == "survived"
    mutants = mutants_of(bench.variant.header, bench.variant.source)
    for operator in ("assignment dropped", "other assignment", "shift reversed", "mask"):
        judged = (bench.judge(m) for m in mutants if m.operator == operator)
        counted = list(islice((verdict for verdict in judged if verdict.counts), 1))
        assert all(verdict.killed for verdict in counted), (operator, counted)
