"""
What waiting timers weigh and cost: 100,000 in a TimerRegistry, beside threading and asyncio.

``python -m benchmarks.timers`` prints a table and writes it, with machine, Python and date, to
``benchmarks/results/``. Memory is what tracemalloc sees of fresh objects, the handles that the
caller keeps included; times are the best of several rounds.

The bounds that the house promises: at most 400 bytes for each waiting timer, and nothing left of
them, half a byte each, when all are cancelled; the exit code says whether they held.

Not like for like: a handle of asyncio knows no owner and no place that started it, and one of
threading.Timer is a thread, of which a hundred are measured and not 100,000.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.record import machine, write
from memguard.bounded.timers.threaded import TimerRegistry

MOST_BYTES = 400
MOST_LEFT = 0.5
AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One kind of timer; bytes and microseconds of each."""

    what: str
    timers: int
    bytes_each: float
    bytes_left: float
    """Of each, when all have been cancelled and dropped."""
    start: float
    """Microseconds to start one."""
    cancel: float
    """Microseconds to cancel one."""


def nothing() -> None:
    """Do what the timers would do."""


def weigh(start: Callable[[], object], settle: Callable[[], object], count: int) -> list[float]:
    """Return bytes of each timer that waits, and of each when all were cancelled."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        handles: list[object] = [start() for _ in range(count)]
        settle()
        waiting = tracemalloc.get_traced_memory()[0] - before
        for handle in handles:
            end(handle)
        del handle, handles
        settle()
        gc.collect()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    return [waiting / count, left / count]


def end(handle: object) -> None:
    """Cancel a timer of whatever kind."""
    if isinstance(handle, asyncio.TimerHandle | threading.Timer):
        handle.cancel()
        if isinstance(handle, threading.Timer):
            handle.join()
    else:
        handle.close()  # type: ignore[attr-defined]  # reason: ours


def clock(start: Callable[[], object], count: int, rounds: int) -> list[float]:
    """Return microseconds to start and to cancel one, the best of *rounds*."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        began = time.perf_counter_ns()
        handles = [start() for _ in range(count)]
        started = time.perf_counter_ns()
        for handle in handles:
            end(handle)
        ended = time.perf_counter_ns()
        best[0] = min(best[0], (started - began) / count / 1000)
        best[1] = min(best[1], (ended - started) / count / 1000)
    return best


def measure(
    what: str,
    start: Callable[[], object],
    settle: Callable[[], object],
    *,
    count: int,
    rounds: int,
) -> Cost:
    """Return what one kind of timer weighs and costs."""
    start_time, cancel_time = clock(start, count, rounds)
    settle()
    waiting, left = weigh(start, settle, count)
    return Cost(
        what=what,
        timers=count,
        bytes_each=round(waiting, 1),
        bytes_left=round(max(0.0, left), 2),
        start=round(start_time, 3),
        cancel=round(cancel_time, 3),
    )


def settled(timers: TimerRegistry) -> Callable[[], None]:
    """Return a wait for the registry's thread to have looked at everything."""

    def settle() -> None:
        deadline = time.monotonic() + 30
        schedule = timers._schedule  # noqa: SLF001 - reason: what is waited for has no public name
        timers._workers.wake()  # noqa: SLF001 - reason: as above
        while schedule._incoming or len(schedule._heap) > len(schedule.rows) + 64:  # noqa: SLF001 - reason: as above
            if time.monotonic() > deadline:
                raise TimeoutError("the clock thread does not come to rest")
            time.sleep(0.01)
        time.sleep(1.5)  # the janitor forgets owners without timers within a second

    return settle


class Owner:
    """Whose end ends a timer."""


def ours(count: int, rounds: int) -> list[Cost]:
    """Return what timers of a registry weigh, alone and with one owner for all."""
    costs = []
    owner = Owner()
    for what, options in (
        ("TimerRegistry.after", {}),
        ("TimerRegistry.after, with an owner", {"owner": owner}),
    ):
        with TimerRegistry(maxsize=2 * count, name="benchmark") as timers:

            def start(
                timers: TimerRegistry = timers, options: dict[str, Owner] = options
            ) -> object:
                return timers.after(AN_HOUR, nothing, **options)

            costs.append(measure(what, start, settled(timers), count=count, rounds=rounds))
    return costs


def peers(count: int, rounds: int) -> list[Cost]:
    """Return what the standard library's timers weigh."""
    loop = asyncio.new_event_loop()
    try:
        handles = measure(
            "asyncio loop.call_later",
            lambda: loop.call_later(AN_HOUR, nothing),
            lambda: loop.run_until_complete(asyncio.sleep(0)),
            count=count,
            rounds=rounds,
        )
    finally:
        loop.close()

    def start() -> threading.Timer:
        timer = threading.Timer(AN_HOUR, nothing)
        timer.start()
        return timer

    threads = measure(
        "threading.Timer (and 8 MiB of address space for its stack)",
        start,
        lambda: None,
        count=100,
        rounds=rounds,
    )
    return [handles, threads]


def main() -> int:
    """Measure, print, write; 1 where a timer is larger than promised."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--timers", type=int, default=100_000, help="how many (default 100,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    options = parser.parse_args()
    if options.timers < 1000 or options.rounds < 1:
        parser.error("--timers must be >= 1000 and --rounds >= 1")
    costs = ours(options.timers, options.rounds) + peers(options.timers, options.rounds)
    about = machine()
    print(" · ".join(f"{key} {value}" for key, value in about.items()))
    print(f"{'timers':>8} {'bytes':>8} {'left':>6} {'µs start':>9} {'µs cancel':>9}  what")
    for cost in costs:
        row = f"{cost.timers:>8,} {cost.bytes_each:>8.0f} {cost.bytes_left:>6.2f}"
        print(f"{row} {cost.start:>9.2f} {cost.cancel:>9.2f}  {cost.what}")
    held = costs[0].bytes_each <= MOST_BYTES and costs[0].bytes_left <= MOST_LEFT
    result = {
        "most_bytes": MOST_BYTES,
        "held": held,
        "costs": [asdict(cost) for cost in costs],
    }
    write("timers", about, result, options.output)
    print(f"within what is promised: {held}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
