"""
What lending an object costs: ObjectPool beside queue.LifoQueue and SQLAlchemy.

``python -m benchmarks.pool`` runs all of them in turns, in slices of a few milliseconds within one
process, and keeps the fastest slice of each, so that what else the machine does falls on all alike.
It does so in several fresh processes, compares within each, and goes by the median. It prints a
table and writes it, with machine, Python and date, to ``benchmarks/results/``.

The bounds that the project promises: acquire and release, with leak tracking, in at most 0.2 of the
time of SQLAlchemy's QueuePool and 0.75 of queue.LifoQueue's; the exit code says whether they held.

Not like for like: LifoQueue hands out objects and knows nothing of them afterwards. SQLAlchemy
fires events and wraps connections; its connections are stand-ins here that do nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import queue
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.elsewhere import measure_elsewhere
from benchmarks.record import machine, write
from benchmarks.turns import Slice, if_installed, in_turns
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.bounded.pool.object_pool import ObjectPool

OURS = "ObjectPool acquire + release"
PEERS = {"queue.LifoQueue get + put": 0.75, "SQLAlchemy QueuePool connect + close": 0.2}
"""What OURS may cost at most, as a share of each peer."""


class Connection:
    """Stands in for a connection that costs nothing."""

    autocommit = True
    closed = broken = False
    pgconn: Any = None

    def close(self) -> None:
        """Do nothing."""

    rollback = commit = close


def object_pool(**options: Any) -> Slice:
    """Return acquire and release of an ObjectPool."""
    pool = ObjectPool(Connection, maxsize=5, name="benchmark", **{"reset": None, **options})

    def run(times: int) -> None:
        for _ in range(times):
            connection = pool.acquire()
            pool.release(connection)

    return run


def object_pool_lease() -> Slice:
    """Return the with block of an ObjectPool."""
    pool = ObjectPool(Connection, maxsize=5, reset=None, name="benchmark")

    def run(times: int) -> None:
        for _ in range(times):
            with pool.lease():
                pass

    return run


def lifo_queue() -> Slice:
    """Return get and put of the standard library's queue."""
    idle: queue.LifoQueue[Connection] = queue.LifoQueue(5)
    idle.put(Connection())

    def run(times: int) -> None:
        for _ in range(times):
            connection = idle.get()
            idle.put(connection)

    return run


def sqlalchemy_pool() -> Slice:
    """Return connect and close of SQLAlchemy's QueuePool, without its reset."""
    pools: Any = importlib.import_module("sqlalchemy.pool")
    pool = pools.QueuePool(Connection, pool_size=5, max_overflow=0, reset_on_return=None)

    def run(times: int) -> None:
        for _ in range(times):
            connection = pool.connect()
            connection.close()

    return run


def buffer_pool(nbytes: int) -> Slice:
    """Return filling a buffer of a BufferPool, which zeroes it afterwards."""
    pool = BufferPool([nbytes], maxbytes=5 * nbytes, name="benchmark")
    data = b"x" * nbytes

    def run(times: int) -> None:
        for _ in range(times):
            with pool.lease(nbytes) as view:
                view[:] = data

    return run


def fresh_buffer(nbytes: int) -> Slice:
    """Return filling a new bytearray each time."""
    data = b"x" * nbytes

    def run(times: int) -> None:
        for _ in range(times):
            buffer = bytearray(nbytes)
            with memoryview(buffer) as view:
                view[:] = data

    return run


def contestants() -> dict[str, Slice]:
    """Return who is here; peers that are not installed are left out, and named."""
    found: dict[str, Slice] = {
        OURS: object_pool(),
        "ObjectPool acquire + release, with reset": object_pool(reset=Connection.rollback),
        "ObjectPool acquire + release, all options": object_pool(
            reset=Connection.rollback,
            validate=bool,
            max_lifetime=3600,
            max_idle=600,
            leak_after=60,
        ),
        "ObjectPool with lease()": object_pool_lease(),
        "queue.LifoQueue get + put": lifo_queue(),
        "BufferPool with lease(4 KiB)": buffer_pool(4096),
        "bytearray(4 KiB)": fresh_buffer(4096),
        "BufferPool with lease(1 MiB)": buffer_pool(1 << 20),
        "bytearray(1 MiB)": fresh_buffer(1 << 20),
    }
    found.update(if_installed(lambda: {"SQLAlchemy QueuePool connect + close": sqlalchemy_pool()}))
    return found


def ratios(best: dict[str, float]) -> dict[str, float]:
    """Return what acquire and release cost beside the peers, within one process."""
    ours = best[OURS]
    return {peer: round(ours / best[peer], 4) for peer in PEERS if peer in best}


def main() -> int:
    """Measure, print, write; 1 when a checkout costs more than promised."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=60, help="slices of each (default 60)")
    parser.add_argument("--processes", type=int, default=7, help="fresh processes (default 7)")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    parser.add_argument("--inner", action="store_true", help="measure here, print JSON only")
    options = parser.parse_args()
    if options.rounds < 5 or options.processes < 1:
        parser.error("--rounds must be >= 5 and --processes >= 1")
    if options.inner:
        print(json.dumps(in_turns(contestants(), options.rounds)))
        return 0
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    runs = [measure_elsewhere("benchmarks.pool", options.rounds) for _ in range(options.processes)]
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    for name, nanoseconds in median.items():
        print(f"{nanoseconds:>10.0f} ns  {name}")
    found = [ratios(run) for run in runs]
    held = True
    for peer in found[0]:
        each = sorted(run[peer] for run in found)
        middle = statistics.median(each)
        held = held and middle <= PEERS[peer]
        print(f"{middle:.3f} of {peer} (promised {PEERS[peer]}; {each[0]:.3f} to {each[-1]:.3f})")
    result = {
        "rounds": options.rounds,
        "median_nanoseconds": {name: round(value, 1) for name, value in median.items()},
        "ratios_of_each_process": found,
        "held": held,
    }
    write("pool", about, result, options.output)
    print(f"within what is promised: {held}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
