"""
Run one program under a detector and print what it reports as JSON.

    host.py FILE RATE READINGS STEPS [to-the-end] [look]

The program is weighed over as many steps as were reported on, at most *STEPS*; 0 for none.
``to-the-end`` goes on after an alarm, ``look`` takes a look on demand at the end.

Time is what the program does: a reading is due every *RATE* steps, and a second is one reading. So
the same steps are seen however busy the machine is, and no time is spent waiting. The bytes that a
step leaks are measured afterwards, by running the program again under tracemalloc.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
import tracemalloc
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from memguard.leaks.detector import LeakDetector, diagnose
from memguard.leaks.evidence import calls, tracing
from memguard.leaks.report import LeakReport

MEASURED = 24
"""Times that the bytes of a program are measured, evenly in the logarithm of its steps."""


class Over(BaseException):
    """There is a report, or enough was seen."""


class _Time:
    """Stands in for the module, where a tracer or a watcher of calls asks it for its seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.perf_counter = now


class WorkClock:
    """Ticks a detector by the steps of a program."""

    def __init__(self, rate: int, readings: int, *, to_the_end: bool) -> None:
        self.rate = rate
        self.readings = readings
        self.to_the_end = to_the_end
        self.steps = 0
        self.alarms: list[LeakReport] = []
        self.detector = LeakDetector(
            interval=1.0,
            min_growth_bytes="1MiB",
            limit="4GiB",
            timer=self.now,
            on_leak=self.alarms.append,
        )
        # Those of the evidence, too: else a second of tracing is not one of growth.
        for module in (tracing, calls):
            vars(module)["time"] = _Time(self.now)
        self.due = self.detector.tick()

    def now(self) -> float:
        """Return the seconds that have gone by."""
        return self.steps / self.rate

    def __call__(self) -> int:
        """Let a step go by and return its number; tick where it is time."""
        self.steps += 1
        if self.now() >= self.due:
            self.due = self.now() + self.detector.tick()
            if self.now() > self.readings or (self.alarms and not self.to_the_end):
                raise Over
        return self.steps


class Scales:
    """Weighs what a program has allocated after some steps."""

    def __init__(self, steps: int) -> None:
        self.steps = 0
        low = max(10, steps // 4)
        self.wanted = {round(low * 4 ** (n / MEASURED)) for n in range(MEASURED + 1)}
        self.found: list[float] = []
        tracemalloc.start(1)
        self.before = tracemalloc.get_traced_memory()[0]

    def __call__(self) -> int:
        """Let a step go by and return its number; weigh where it is time."""
        if self.steps in self.wanted:
            if gc.isenabled():
                gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - self.before
            self.found.append(grown / self.steps)
            self.wanted.discard(self.steps)
            if not self.wanted:
                raise Over
        self.steps += 1
        return self.steps

    def bytes_per_step(self) -> float:
        """Return the mean: a table that doubles now and then is heavy after, and light before."""
        tracemalloc.stop()
        return sum(self.found) / len(self.found)


def play(path: str, tick: Callable[[], int]) -> types.ModuleType:
    """Load the program at *path* and run it until *tick* says that it is over; return it."""
    spec = importlib.util.spec_from_file_location("shop", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shop"] = module
    spec.loader.exec_module(module)
    run(module, tick)
    return module


def run(module: types.ModuleType, tick: Callable[[], int]) -> None:
    """Run the program *module*; in a frame that holds nothing of it."""
    try:
        if hasattr(module, "main"):
            module.main(tick)
        step = module.step
        while True:
            step(tick())
    except Over:
        pass


def plain(report: LeakReport) -> dict[str, Any]:
    """Return *report* with what it says first: its headline, and the line to read."""
    place = report.place
    return {
        **asdict(report),
        "headline": report.headline,
        "place": place and f"{Path(place.file).name}:{place.line}",
    }


def look() -> LeakReport:
    """Look on demand, in seconds of the clock on the wall: nothing else goes on."""
    for module in (tracing, calls):
        vars(module)["time"] = time
    return diagnose(seconds=0.1)


def main() -> None:
    """Run the program named on the command line."""
    path, rate, readings, measured = sys.argv[1], *map(int, sys.argv[2:5])
    wishes = sys.argv[5:]
    clock = WorkClock(rate, readings, to_the_end="to-the-end" in wishes)
    first = play(path, clock)
    looked = look() if "look" in wishes else None
    reports = clock.detector.reports
    clock.detector.stop()
    answer: dict[str, Any] = {
        "reports": [plain(report) for report in reports],
        "alarms": [plain(report) for report in clock.alarms],
        "looked": None if looked is None else plain(looked),
        "steps": clock.steps,
        "statistics": asdict(clock.detector.statistics()),
        "bytes_per_step": None,
    }
    if measured:
        scales = Scales(min(measured, max(60, clock.steps)))
        play(path, scales)
        answer["bytes_per_step"] = scales.bytes_per_step()
    del first
    print(json.dumps(answer, default=str))  # noqa: T201 - reason: this is its answer
    sys.stdout.flush()
    os._exit(0)  # programs leave threads, loops and a great deal of memory behind


if __name__ == "__main__":
    main()
