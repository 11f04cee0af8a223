"""
What one look at the process's memory costs, call by call, in heaps of several sizes.

``python -m benchmarks.readings`` prints a table and writes it, with machine, Python and date, to
``benchmarks/results/``. The bound that the house promises: a reading costs at most 100 µs at the
99th percentile, in every heap; the exit code says whether it held.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.record import machine, write
from memguard.observe.allocator import read_allocator
from memguard.observe.gcwatch import GcWatch
from memguard.observe.headroom import read_headroom
from memguard.observe.history import History
from memguard.observe.limits import read_limit
from memguard.observe.readings import Detail, read_memory

BUDGET_MICROSECONDS = 100.0
DETAILS: tuple[Detail, ...] = ("faults", "malloc", "files", "limit", "uss")
HEAPS = (0, 100_000, 1_000_000, 5_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Microseconds of one call."""

    call: str
    objects: int
    """Objects alive beside the benchmark's own."""
    threads: int
    """Idle threads beside the main one."""
    calls: int
    median: float
    p99: float


def measure(call: str, function: Callable[[], object], *, objects: int, calls: int) -> Cost:
    """Return the cost of *function*, after a few calls that do not count."""
    for _ in range(5):
        function()
    spent = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        function()
        spent.append((time.perf_counter_ns() - began) / 1000)
    spent.sort()
    return Cost(
        call=call,
        objects=objects,
        threads=threading.active_count() - 1,
        calls=calls,
        median=round(spent[calls // 2], 2),
        p99=round(spent[calls * 99 // 100], 2),
    )


def every_call(objects: int, calls: int) -> list[Cost]:
    """Return the costs of all looks, in a heap with *objects* more."""
    heap = [(number,) for number in range(objects)]
    gc.collect()
    reading, limit = read_memory(), read_limit()
    looks: list[tuple[str, Callable[[], object], int]] = [
        ("read_memory()", read_memory, calls),
        ("sys.getallocatedblocks()", sys.getallocatedblocks, calls // 10),
        *(
            (
                f"read_memory(include=({detail!r},))",
                partial(read_memory, include=(detail,)),
                calls // 10,
            )
            for detail in DETAILS
        ),
        (
            "read_memory() through psutil",
            lambda: read_memory(status_path="/nowhere"),
            calls // 5,
        ),
        ("read_limit()", read_limit, calls // 5),
        ("read_headroom(limit=kept)", lambda: read_headroom(reading, limit=limit), calls // 5),
        ("read_allocator()", read_allocator, calls // 5),
    ]
    costs = [
        measure(name, function, objects=objects, calls=max(20, count))
        for name, function, count in looks
    ]
    del heap
    return costs


def in_many_threads(calls: int) -> Cost:
    """Return the cost of a reading in a process with a hundred idle threads."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    try:
        return measure("read_memory()", read_memory, objects=0, calls=calls)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def histories(calls: int) -> list[Cost]:
    """Return the cost of remembering a reading, and of the minute's write."""
    row, memory = read_memory(), History()
    costs = [measure("History.add()", lambda: memory.add(row), objects=0, calls=calls)]
    with tempfile.TemporaryDirectory() as directory:
        now = [0.0]
        with History(path=Path(directory, "history.db"), clock=lambda: now[0]) as history:

            def minute() -> None:
                now[0] += 60
                history.add(row)

            name = "History.add() that writes a minute to its file"
            costs.append(measure(name, minute, objects=0, calls=max(50, calls // 20)))
    return costs


def collections(calls: int) -> list[Cost]:
    """Return the cost of a young collection, bare and watched: the difference is the callback."""

    def collect() -> None:
        gc.collect(0)

    bare = measure("gc.collect(0)", collect, objects=0, calls=calls)
    with GcWatch():
        watched = measure("gc.collect(0) under GcWatch", collect, objects=0, calls=calls)
    return [bare, watched]


def main() -> int:
    """Measure, print, write; 1 where a reading costs more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--calls", type=int, default=2000, help="calls per line (default 2000)")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    options = parser.parse_args()
    if options.calls < 100:
        parser.error(f"--calls must be >= 100 (got {options.calls})")
    costs = [cost for objects in HEAPS for cost in every_call(objects, options.calls)]
    costs.append(in_many_threads(options.calls))
    costs += histories(options.calls)
    costs += collections(options.calls)
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'µs median':>10} {'µs p99':>10} {'objects':>10} {'threads':>8}  call")
    for cost in costs:
        line = f"{cost.median:>10.2f} {cost.p99:>10.2f} {cost.objects:>10,} {cost.threads:>8}"
        print(f"{line}  {cost.call}")
    dear = [
        cost for cost in costs if cost.call == "read_memory()" and cost.p99 > BUDGET_MICROSECONDS
    ]
    held = not dear
    result = {
        "budget_microseconds": BUDGET_MICROSECONDS,
        "held": held,
        "costs": [asdict(cost) for cost in costs],
    }
    write("readings", about, result, options.output)
    print(f"a reading within {BUDGET_MICROSECONDS:.0f} µs at the 99th percentile: {held}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
