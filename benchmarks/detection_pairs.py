"""
What memguard costs the steps of a program: each case of a corpus with and without it, in turns.

    python -m benchmarks.detection_pairs --corpus DIR [--seconds 8] [--project CHECKOUT]

Runs at another time see another load of the machine; runs that take turns (ABBA) see the same.
For the corpus see ``benchmarks.detection``. Prints medians; writes them to benchmarks/results.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import machine, write

ADAPTERS = ("none", "memguard")
TURNS = (*ADAPTERS, *reversed(ADAPTERS))

Steps = dict[str, list[tuple[float, float]]]
"""Adapter -> (p50, p99) of each of its runs, microseconds."""


def ratio(runs: Steps, which: int) -> float | None:
    """Return the mean *which* (0: p50, 1: p99) with memguard over that without; None if unknown."""
    bare, watched = ([run[which] for run in runs[adapter]] for adapter in ADAPTERS)
    if not bare or not watched or not sum(bare):
        return None
    return statistics.mean(watched) / statistics.mean(bare)


def measure(corpus: Path, names: Sequence[str], seconds: float, project: Path) -> dict[str, Steps]:
    """Run each case twice with and twice without memguard."""
    sys.path.insert(0, str(corpus))
    runner: Any = importlib.import_module("run_case")
    found: dict[str, Steps] = {}
    for name in names:
        runs: Steps = {adapter: [] for adapter in ADAPTERS}
        for adapter in TURNS:
            row = runner.run(name, adapter, seconds, 200.0, project=str(project))
            if row.get("step_p50_us"):
                runs[adapter].append((row["step_p50_us"], row["step_p99_us"]))
        found[name] = runs
        print(f"{name:28} p50 {ratio(runs, 0)}  p99 {ratio(runs, 1)}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with run_case.py")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds a run")
    parser.add_argument("--only", default="", help="cases, separated by commas")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="checkout of memguard")
    options = parser.parse_args(arguments)
    names = sorted(path.stem for path in (options.corpus / "cases").glob("*.py"))
    wanted = [name for name in names if not options.only or name in options.only.split(",")]
    found = measure(options.corpus, wanted, options.seconds, options.project.resolve())
    middles = {}
    for label, which in (("p50", 0), ("p99", 1)):
        ratios = [value for runs in found.values() if (value := ratio(runs, which)) is not None]
        middles[label] = round(statistics.median(ratios), 3)
    print(f"{len(found)} cases: medians with memguard over without: {middles}")
    result = {"seconds": options.seconds, "medians": middles, "cases": found}
    write("detection-pairs", machine(), result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
