"""
Run the workload three times: as it is, with memguard, and with bounds that were tuned by hand.

``python -m examples.survival [DIRECTORY]`` makes a memory control group of 300 MiB for each run
where this machine allows it (Linux, cgroup version 1, as root), and bounds the address space
otherwise. It prints what happened, writes a plot of memory over time to DIRECTORY, and exits with
0 only if the bare run died, and the guarded one finished all its work, below the limit and at least
0.8 times as fast as the tuned one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from examples.survival.contest import Outcome, contest
from examples.survival.plot import svg
from memguard.units import MiB, format_bytes

LIMIT = 300 * MiB
LEAST_THROUGHPUT = 0.8


def described(outcome: Outcome) -> str:
    """Return one line about a run."""
    if outcome.result is None:
        return f"{outcome.mode:8} ended by {outcome.ending} after {outcome.seconds:.1f} s"
    result = outcome.result
    return (
        f"{outcome.mode:8} finished: {result['requests']:,} requests, "
        f"{result['requests_per_second']:,} a second, hit ratio {result['hit_ratio']:.2f}, "
        f"peak {format_bytes(result['peak'])} of {format_bytes(LIMIT)}, "
        f"levels: {', '.join(result['level_changes']) or 'not watched'}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the contest."""
    parser = argparse.ArgumentParser(description="killed without memguard, finished with it")
    parser.add_argument("directory", nargs="?", default=".", help="where the plot goes")
    parser.add_argument("--requests", type=int, default=40_000)
    options = parser.parse_args(arguments)
    outcomes = contest(("bare", "tuned", "guarded"), limit=LIMIT, requests=options.requests)
    for outcome in outcomes:
        print(described(outcome))
    path = Path(options.directory, "survival.svg")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(outcomes, limit=LIMIT), "utf-8")
    print(f"memory over time: {path}")
    bare, tuned, guarded = (outcome.result for outcome in outcomes)
    if guarded is None or tuned is None:
        print("the guarded or the tuned run did not finish", file=sys.stderr)
        return 1
    ratio = guarded["requests_per_second"] / tuned["requests_per_second"]
    print(f"guarded / tuned: {ratio:.2f}")
    survived = bare is None and guarded["peak"] <= LIMIT
    return 0 if survived and ratio >= LEAST_THROUGHPUT else 1


if __name__ == "__main__":
    raise SystemExit(main())
