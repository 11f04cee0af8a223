"""
How well are leaks found? memguard and simpler detectors over a corpus of real leaks.

The corpus is not part of this project: a folder of cases and a runner, ``run_case.py`` and
``run_all.py``, that drives each case in a process of its own under one detector (an *adapter*).

    python -m benchmarks.detection --corpus DIR [--seconds 60] [--adapters memguard,…] [--stored]

Prints one table: what was alarmed, what was named, and what it cost the steps of the program.
``--stored`` runs nothing and reads what earlier runs have left. JSON goes to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import detection_peers
from benchmarks.record import machine, write

ADAPTERS = ("memguard", "tracemalloc_diff", "objgraph_growth", *detection_peers.ADAPTERS)
LEAKS = ("leak", "native_leak")
QUIET = ("healthy", "spike", "bloat")

Row = dict[str, Any]


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    hits: int
    of: int

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}"


def share(rows: Iterable[Row], key: Callable[[Row], object]) -> Share:
    """Return how many of *rows* for which *key* is not None have it true."""
    known = [key(row) for row in rows]
    asked = [value for value in known if value is not None]
    return Share(sum(bool(value) for value in asked), len(asked))


def of_kind(rows: Iterable[Row], kinds: Sequence[str]) -> list[Row]:
    """Return the rows of cases of these *kinds* that ran."""
    return [row for row in rows if row["kind"] in kinds and row.get("alarm") is not None]


def slowdowns(rows: Iterable[Row], bare: dict[str, Row], key: str) -> list[float]:
    """Return *key* (microseconds a step) of each case over that of the run without a detector."""
    return [
        row[key] / bare[row["case"]][key]
        for row in rows
        if row.get(key) and bare.get(row["case"], {}).get(key)
    ]


def traced_share(row: Row) -> float | None:
    """Return the share of a run that memguard traced; None where nothing is known of it."""
    cost = row.get("own_cost")
    seconds = row.get("elapsed_s")
    return cost["traced_seconds"] / seconds if cost and seconds else None


def summarize(rows: list[Row], bare: dict[str, Row]) -> dict[str, str]:
    """Return the lines of the table for one adapter."""
    leaks = of_kind(rows, LEAKS)
    native = [row for row in of_kind(rows, ("native_leak",)) if row["alarm"]]
    named = [row for row in native if row.get("verdict")]
    half, tail = slowdowns(rows, bare, "step_p50_us"), slowdowns(rows, bare, "step_p99_us")
    traced = [found for row in rows if (found := traced_share(row)) is not None]
    return {
        "leaks alarmed": str(share(leaks, lambda row: row["alarm"])),
        "alarms on healthy, spike, bloat": str(
            share(of_kind(rows, QUIET), lambda row: row["alarm"])
        ),
        "allocation site in the top 5 (kind leak)": str(
            share(of_kind(rows, ("leak",)), lambda row: row.get("site5"))
        ),
        "holder named": str(share(leaks, lambda row: row.get("retainer_hit"))),
        "native leaks called native": (
            str(share(named, lambda row: "native" in row["verdict"])) if named else "-"
        ),
        "step p50 over none, median": f"{statistics.median(half):.2f}" if half else "-",
        "step p99 over none, median": f"{statistics.median(tail):.2f}" if tail else "-",
        "share of the run spent tracing, most": f"{max(traced):.1%}" if traced else "-",
    }


def table(columns: dict[str, dict[str, str]]) -> str:
    """Return *columns* (name of the adapter to its lines) as a Markdown table."""
    names = list(columns)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [
        f"| {label} | {' | '.join(columns[name][label] for name in names)} |"
        for label in next(iter(columns.values()))
    ]
    return "\n".join(lines)


def run(corpus: Path, adapter: str, seconds: float, home: Path) -> None:
    """Run the whole corpus under *adapter*; the runner stores the results."""
    if adapter in detection_peers.ADAPTERS:
        detection_peers.run_all(corpus, adapter, seconds, home)
        return
    subprocess.run(
        [
            sys.executable,
            str(corpus / "run_all.py"),
            "--adapter",
            adapter,
            "--seconds",
            f"{seconds:g}",
        ],
        check=True,
    )


def stored(home: Path, adapter: str, seconds: float) -> dict[str, Row]:
    """Return what a run has stored, by case."""
    path = home / "results" / f"{adapter}-{seconds:g}s.json"
    found: dict[str, Row] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or read, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with run_all.py")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds a case")
    parser.add_argument("--bare-seconds", type=float, default=4.0, help="of the runs without one")
    parser.add_argument("--adapters", default=",".join(ADAPTERS))
    parser.add_argument("--stored", action="store_true", help="run nothing")
    parser.add_argument("--home", type=Path, help="where results are stored (CORPUS_HOME)")
    options = parser.parse_args(arguments)
    home = options.home or Path(
        os.environ.get("CORPUS_HOME", Path.home() / ".cache" / "memguard-corpus")
    )
    bare = stored(home, "none", options.bare_seconds)
    columns: dict[str, dict[str, str]] = {}
    for adapter in options.adapters.split(","):
        if not options.stored:
            run(options.corpus, adapter, options.seconds, home)
        rows = list(stored(home, adapter, options.seconds).values())
        if not rows:
            print(f"{adapter}: nothing stored for {options.seconds:g} s", file=sys.stderr)
            continue
        columns[adapter] = summarize(rows, bare)
    if not columns:
        return 1
    where = machine()
    facts = ", ".join(str(value) for value in where.values())
    print(f"{facts}; {options.seconds:g} s a case\n")
    print(table(columns))
    write("detection", where, {"seconds": options.seconds, "table": columns})
    return 0


if __name__ == "__main__":
    sys.exit(main())
