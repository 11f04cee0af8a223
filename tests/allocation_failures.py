"""
Fail one allocation of an operation, another one each time, and print what that has spoilt.

    allocation_failures.py OPERATION FIRST LAST STEP

Each failure has a process of its own, forked off: CPython itself crashes at some of them, 3.12 and
3.13 wherever a generator is made (python/cpython#151763 collects such crashes). They are left out.

Prints nothing where all is well: what was at work goes on working, no tracing of ours is left on,
and a tick does not raise. Not for a tick that starts tracing and goes on: tracemalloc replaces the
allocators that fail here, and their removal would put it back after its end.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found] # reason: no stubs of it
import itertools
import logging
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

from memguard.leaks.detector import LeakDetector
from memguard.observe.readings import Reading
from memguard.relief.monitor import PressureMonitor
from memguard.relief.steps import Relief
from memguard.units import MiB

TICKS_BEFORE_A_LOOK = 14
"""At a MiB each, half of 24 MiB over the baseline is reached at the next one."""


@dataclass
class Operation:
    """What is done with an allocation failing, and then again without."""

    run: Callable[[], object]
    close: Callable[[], object] = lambda: None
    may_raise: bool = True
    ticks: Callable[[], int] = lambda: 0


def tick() -> Operation:
    """Return a tick of a detector that watches."""
    detector = LeakDetector(interval=0.05, warmup=0)
    detector.tick()
    return Operation(
        detector.tick, detector.stop, may_raise=False, ticks=lambda: detector.statistics().ticks
    )


def look() -> Operation:
    """Return a tick of a detector that takes its first look at the heap: memory has grown."""
    levels = itertools.count(100 * MiB, MiB)
    detector = LeakDetector(
        interval=0.05,
        warmup=0,
        min_growth_bytes="24MiB",
        read=lambda: Reading(at=time.monotonic(), anon=next(levels), threads=3, open_files=9),
    )
    for _ in range(TICKS_BEFORE_A_LOOK):
        detector.tick()
    return Operation(
        detector.tick, detector.stop, may_raise=False, ticks=lambda: detector.statistics().ticks
    )


def check() -> Operation:
    """Return a look on demand."""
    detector = LeakDetector(interval=0.05, trace_seconds=0.05, retention_seconds=0.5)
    return Operation(lambda: detector.check(seconds=0), detector.stop)


def monitor() -> Operation:
    """Return a tick of a pressure monitor."""
    watched = PressureMonitor(limit="8GiB")
    watched.tick()
    return Operation(
        watched.tick, watched.stop, may_raise=False, ticks=lambda: watched.statistics().ticks
    )


def relief() -> Operation:
    """Return a relief run."""
    run = Relief()
    return Operation(lambda: run.relieve("1MiB"))


OPERATIONS = (tick, look, check, monitor, relief)


def spoilt_by(number: int, make: Callable[[], Operation]) -> str | None:
    """Return what the failure of allocation *number* has spoilt, or None."""
    operation = make()
    raised: BaseException | None = None
    _testcapi.set_nomemory(number, number + 1)
    try:
        operation.run()
    except BaseException as error:  # noqa: BLE001 - reason: that is the question
        raised = error
    finally:
        _testcapi.remove_mem_hooks()
    if raised is not None and not operation.may_raise:
        return f"raised {raised!r}"
    before = operation.ticks()
    operation.run()
    if operation.ticks() == before != 0:
        return "is stuck"
    operation.close()
    return "is still tracing" if tracemalloc.is_tracing() else None


def main() -> None:
    """Try the counts asked for."""
    logging.disable(logging.CRITICAL)
    name, *bounds = sys.argv[1:]
    (make,) = (operation for operation in OPERATIONS if operation.__name__ == name)
    operation = make()  # once without a failure, so that no child has to import anything
    operation.run()
    operation.close()
    for number in range(*map(int, bounds)):
        child = os.fork()
        if child == 0:
            try:
                spoilt = spoilt_by(number, make)
                if spoilt:
                    print(f"allocation {number} of {name} failed: {spoilt}", flush=True)  # noqa: T201 - reason: this is its answer
            finally:
                os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
