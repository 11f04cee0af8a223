"""
What the pressure monitor costs, and for how long a relief run keeps others waiting.

``python -m benchmarks.relief`` prints and writes, with machine, Python and date, to
``benchmarks/results/``: the share of a core that a monitor takes at an interval of one second, far
from its limit, near it and at rest; and the slowest cache operations of eight threads while relief
runs over and over, beside the slowest without. The exit code says whether the bounds of the house
held: 0.1 % of a core, 10 ms added.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import threading
import time
from dataclasses import asdict, dataclass

from benchmarks.record import machine, write
from memguard.bounded.cache.bounded_cache import BoundedCache
from memguard.observe.readings import read_memory
from memguard.relief.callbacks import PressureLevel
from memguard.relief.monitor import PressureMonitor
from memguard.relief.steps import Relief
from memguard.units import MiB

MOST_SHARE = 0.001
MOST_BLOCKED_MS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorCost:
    """A monitor's share of a core."""

    case: str
    seconds: float
    ticks: int
    full_looks: int
    core_share: float
    """Processor time of its ticks over the time that passed; waking the thread is not in it."""
    process_share: float
    """The same for the whole process, which did nothing else."""


def monitor_cost(case: str, limit: int | str, seconds: float) -> MonitorCost:
    """Let a monitor watch an idle process, after the three seconds that it is wide awake."""
    with PressureMonitor(limit, relief=Relief()) as monitor:
        time.sleep(3.0)
        before, began, cpu = monitor.statistics(), time.monotonic(), time.process_time()
        time.sleep(seconds)
        passed = time.monotonic() - began
        whole, after = time.process_time() - cpu, monitor.statistics()
    return MonitorCost(
        case=case,
        seconds=round(passed, 2),
        ticks=after.ticks - before.ticks,
        full_looks=after.full_looks - before.full_looks,
        core_share=round((after.cpu_seconds - before.cpu_seconds) / passed, 6),
        process_share=round(whole / passed, 6),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocking:
    """How long single cache operations took, of all threads together. Milliseconds."""

    case: str
    operations: int
    median: float
    p999: float
    worst: float
    runs: int
    """Relief runs meanwhile."""
    longest_run: float


def blocking(
    case: str, *, threads: int, seconds: float, relieving: PressureLevel | None
) -> Blocking:
    """Time every operation of *threads*; the relief runs in a thread of its own, as it does."""
    cache: BoundedCache[int, bytes] = BoundedCache(maxbytes="96MiB", name="bench")
    relief = Relief()
    done = threading.Event()
    times: list[list[int]] = [[] for _ in range(threads)]

    def work(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - reason: a workload
        clock, mine = time.perf_counter_ns, times[number]
        while not done.is_set():
            key = chance.randrange(200_000)
            began = clock()
            if cache.get(key) is None:
                cache[key] = b"x" * 1000
            mine.append(clock() - began)
            if len(mine) % 20 == 0:
                time.sleep(0.001)

    def relieve(level: PressureLevel) -> None:
        while not done.wait(0.1):
            relief.relieve(4 * MiB, level=level, force=False)

    crew = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    if relieving is not None:
        crew.append(threading.Thread(target=relieve, args=(relieving,)))
    for thread in crew:
        thread.start()
    time.sleep(seconds)
    done.set()
    for thread in crew:
        thread.join()
    relief.restore()
    every = sorted(each for mine in times for each in mine)
    statistics = relief.statistics()
    return Blocking(
        case=case,
        operations=len(every),
        median=round(every[len(every) // 2] / 1e6, 4),
        p999=round(every[len(every) * 999 // 1000] / 1e6, 3),
        worst=round(every[-1] / 1e6, 3),
        runs=statistics.runs,
        longest_run=round(statistics.longest_seconds * 1000, 3),
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="cost of the monitor, blocking by relief")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--no-file", action="store_true")
    options = parser.parse_args(arguments)
    own = read_memory().private or 0
    costs = [
        monitor_cost("far from the limit", "auto", options.seconds),
        monitor_cost("300 MiB limit, mostly free", 300 * MiB, options.seconds),
        monitor_cost("at 70 % of its limit", int(own / 0.7), options.seconds),
    ]
    for cost in costs:
        print(f"{cost.case:28} {cost.core_share:.4%} of a core in {cost.ticks} ticks")
    gc.collect()
    cases: tuple[tuple[str, PressureLevel | None], ...] = (
        ("no relief", None),
        ("relief ten times a second", "elevated"),
        ("the same at critical", "critical"),
    )
    waits = [
        blocking(
            f"{threads} threads, {case}",
            threads=threads,
            seconds=options.seconds,
            relieving=relieving,
        )
        for threads in (2, 8)
        for case, relieving in cases
    ]
    for wait in waits:
        print(
            f"{wait.case:42} median {wait.median} ms, 99.9 % {wait.p999} ms, "
            f"worst {wait.worst} ms, {wait.runs} runs, longest {wait.longest_run} ms"
        )
    added = [
        max(elevated.worst, critical.worst) - bare.worst
        for bare, elevated, critical in zip(waits[::3], waits[1::3], waits[2::3], strict=True)
    ]
    held = {
        "monitor": max(cost.core_share for cost in costs) <= MOST_SHARE,
        "blocking": max(added) <= MOST_BLOCKED_MS,
    }
    print(f"bounds held: {held}")
    if not options.no_file:
        found = {
            "load": os.getloadavg(),
            "monitor": [asdict(cost) for cost in costs],
            "blocking": [asdict(wait) for wait in waits],
            "bounds_held": held,
        }
        print(write("relief", machine(), found))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
