"""Tune one kernel problem on this device, look at the result, and export the record.

python examples/tune_and_export.py [--problem PROBLEM] [--out FILE] [--thorough]

With no GPU the kernels run in the CPU emulator: that verifies them and shows how tuning works, and
its record is used nowhere else.
"""

import argparse
from pathlib import Path
from statistics import median

from tqgen_kernels.autotuning import autotune
from tqgen_kernels.codegen.problem import parse_problem
from tqgen_kernels.tuning.database.exchange import export_tuned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", default="dequantize:head_dim=64,bits=3,kv_heads=2")
    parser.add_argument("--out", type=Path, default=Path("tuning-records.json"))
    parser.add_argument("--thorough", action="store_true", help="more candidates, more samples")
    args = parser.parse_args()

    (record,) = autotune(
        [parse_problem(args.problem)],
        quick=not args.thorough,
        progress=lambda state: print(f"\r{state.phase}: {state.done} of {state.total}  ", end=""),
    )
    print(f"\n{record.problem} on {record.environment.device}")
    for result in record.results:
        mark = "<- chosen" if result == record.winner else ""
        time = f"{1e6 * median(result.timed):9.1f} us" if result.timed else f"{result.outcome:>12}"
        print(f"{time}  {result.key} {mark}")
    print(f"{export_tuned([record], args.out)} record in {args.out}")


if __name__ == "__main__":
    main()
