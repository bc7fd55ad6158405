"""Mutation testing of our own kernels.

    python -m tests.mutation [--each N] [--seed S] [--subject NAME]

Seeds up to N mutants of each operator into each kernel, runs the ordinary verification on the
emulator, and prints how many were noticed, by what, and the survivors as each kernel is done.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter, defaultdict

from tests.mutation.judge import Bench, Verdict
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.subjects import SUBJECTS, Subject


def sampled(subject: Subject, each: int, seed: int) -> tuple[Bench, list[Mutant]]:
    """The subject's bench and at most `each` mutants of each operator, the same for a seed."""
    bench = Bench(subject)
    by_operator: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants_of(bench.variant.header, bench.variant.source):
        by_operator[mutant.operator].append(mutant)
    rng = random.Random(f"{subject.name} {seed}")
    return bench, [
        mutant
        for found in by_operator.values()
        for mutant in sorted(rng.sample(found, min(each, len(found))), key=found.index)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subject", help="only subjects whose name holds this")
    given = parser.parse_args()
    rows: list[tuple[Subject, Mutant, Verdict]] = []
    for subject in SUBJECTS:
        if given.subject and given.subject not in subject.name:
            continue
        bench, mutants = sampled(subject, given.each, given.seed)
        unchanged = bench.verify(bench.variant)
        if unchanged.how != "survived":
            raise SystemExit(f"{subject.name} fails unmutated: {unchanged}")
        began = time.process_time()
        judged = [(subject, mutant, bench.judge(mutant)) for mutant in mutants]
        _say(f"{subject.name}: {len(mutants)} mutants, {time.process_time() - began:.0f} s CPU")
        _list(judged, bench)
        rows += judged
    _report(rows)
    return 0


def _report(rows: list[tuple[Subject, Mutant, Verdict]]) -> None:
    how = Counter(verdict.how for _, _, verdict in rows)
    counted = [row for row in rows if row[2].counts]
    killed = sum(verdict.killed for _, _, verdict in counted)
    _say(f"\n{len(rows)} mutants: " + ", ".join(f"{n} {name}" for name, n in how.most_common()))
    hard = killed - how["soft finding"]
    _say(
        f"{killed} of the {len(counted)} that compile and differ were killed "
        f"({killed / len(counted):.1%}), {hard} without soft findings ({hard / len(counted):.1%})"
    )
    _say("\n| operator | killed | survived | equivalent |\n|---|---|---|---|")
    for operator in dict.fromkeys(mutant.operator for _, mutant, _ in rows):
        mine = [verdict for _, mutant, verdict in rows if mutant.operator == operator]
        survived = sum(v.how == "survived" for v in mine)
        equivalent = sum(v.how == "equivalent" for v in mine)
        _say(f"| {operator} | {sum(v.killed for v in mine)} | {survived} | {equivalent} |")


def _list(judged: list[tuple[Subject, Mutant, Verdict]], bench: Bench) -> None:
    """What was not noticed, or only by a soft finding, with its line."""
    for _, mutant, verdict in judged:
        if verdict.how in ("survived", "soft finding"):
            line = getattr(bench.variant, mutant.part).split("\n")[mutant.line - 1].strip()
            _say(f"- {verdict.how} {verdict.detail}: {mutant.summary}\n    {line}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
