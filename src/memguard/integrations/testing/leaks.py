"""
Count what survives each run of a test; if a leak is suspected, find the lines and holders.

First the totals: they are cheap to take, and most tests are clean by them. If they indicate a leak,
the test runs as many times again, with whole stacks traced, between two snapshots. Only what grows
once more, and was allocated by the program and not by pytest, its plugins or memguard, is a leak.
"""

from __future__ import annotations

import gc
import statistics
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from memguard.integrations.testing import report
from memguard.integrations.testing.sites import (
    Runner,
    by_line,
    grown_each_time,
    holders_of,
)
from memguard.leaks.evidence import tracing

Kind = Literal["clean", "undecided", "leak"]

MORE = 3
"""An undecided series is judged again when it is this many times as long."""
_QUARTILE = 4
TOTALS = 1
"""Frames of each allocation that are traced for totals: the fewest there are."""
STACKS = 8
"""Frames to record if callers are wanted. Code that allocates much takes four times as long as for
totals, with 16 frames ten times (Hypothesis drawing lists, CPython 3.11)."""
_COLLECTIONS = 4
_SHOWN_HOLDERS = 3


@dataclass(frozen=True, slots=True)
class Growth:
    """What the levels after each run say."""

    kind: Kind
    bytes_per_run: int
    """What survives a typical run, bytes: the median if growth is even, else the mean."""


def judge(levels: Sequence[int], allowed: int, *, final: bool = False) -> Growth:
    """
    Return whether more than *allowed* bytes survive each run.

    The levels are memory in use, in bytes: before the first counted run, then after each. A single
    run says nothing: a late import or a cache that fills looks like a leak, once. So a series is
    called a leak when

    - every run grew by more than is allowed: the rule of CPython's own leak hunt, which looks at
      the smallest difference (``libregrtest``, python/cpython#74959); or, in a final series,
    - three quarters of the runs did, since something may be freed by chance in one of them; or
    - each third of the series grew by more than is allowed on average: what is appended to a list
      or a buffer grows by leaps, for these are allocated ahead.

    It is clean when neither the mean nor the median is above what is allowed, and undecided
    otherwise: then it takes more runs, ``MORE`` times as many, and *final*, which leaves nothing
    undecided.

    Args:
        levels: At least three, bytes.
        allowed: Bytes that may survive a run.
        final: The series will not be made longer.
    """
    steps = [later - earlier for earlier, later in pairwise(levels)]
    mean = (levels[-1] - levels[0]) / len(steps)
    median = statistics.median(steps)
    if min(steps) > allowed:
        return Growth("leak", round(median))
    if mean <= allowed and median <= allowed:
        return Growth("clean", max(0, round(median)))
    if not final:
        return Growth("undecided", max(0, round(mean)))
    if sorted(steps)[len(steps) // _QUARTILE] > allowed:
        return Growth("leak", round(median))
    if min(_means_of_thirds(steps)) > allowed:
        return Growth("leak", round(mean))
    return Growth("clean", max(0, min(round(median), round(mean))))


def _means_of_thirds(steps: Sequence[int]) -> list[float]:
    bounds = (0, *thirds(len(steps)))
    parts = [steps[start:end] for start, end in pairwise(bounds)]
    return [sum(part) / len(part) for part in parts]


def thirds(runs: int) -> list[int]:
    """Return after how many of *runs* each third of them ends, the last one included."""
    return sorted({max(1, round(part * runs / MORE)) for part in range(1, MORE + 1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What the runs have shown."""

    bytes_per_run: int
    """What survives each run; if it does not leak, at most: what pytest keeps may be in it."""
    runs: int
    """Runs in all, those to warm up too."""
    failure: str | None
    """Why the test fails; None if it does not leak."""


class TracingStoppedError(Exception):
    """What was to be measured has stopped tracemalloc, which measures it."""

    def __str__(self) -> str:
        return "it stops tracemalloc, by which it is measured"


def level() -> int:
    """Return traced memory in use, bytes, when there is no more garbage."""
    for _ in range(_COLLECTIONS):
        # What the finalizers of garbage leave behind is young; without any, all has been found.
        if not (gc.collect() and gc.collect(1)):
            break
    return tracing.traced_memory()[0]


def count_leaks(
    run: Callable[[], object],
    tracer: tracing.Tracer,
    runner: Runner,
    *,
    allowed: int,
    warmup: int,
    repeat: int,
    done: int = 0,
) -> Finding:
    """
    Return what survives each call of *run*. *tracer* is running; what *run* raises is raised.

    Args:
        run: The test, whole.
        tracer: Begun before the first run: what a run replaces must be known to it. It is begun
            again for the stacks.
        runner: Whose memory does not count.
        allowed: Bytes that may survive a run.
        warmup: Runs before counting begins.
        repeat: Runs that count; three times as many if these leave it open, and as many again
            to find the lines of a leak.
        done: Runs that have been made, of those to warm up.

    Raises:
        TracingStoppedError: *run* has ended the session: nothing is known.
    """
    for _ in range(warmup - done):
        run()
    levels = _Levels(run, repeat * MORE)
    growth = levels.judge(repeat, allowed)
    if growth.kind == "undecided":
        growth = levels.judge(repeat * MORE, allowed)
    if growth.kind != "leak":
        return Finding(bytes_per_run=growth.bytes_per_run, runs=warmup + levels.runs, failure=None)
    counted = levels.runs
    return _confirm(run, tracer, runner, allowed=allowed, warmup=warmup, counted=counted)


class _Levels:
    """The levels after each run, in room taken beforehand: a number kept would be growth."""

    def __init__(self, run: Callable[[], object], most: int) -> None:
        self._run = run
        self._levels = array("q", bytes(8 * (most + 1)))
        self.runs = 0
        self._levels[0] = level()

    def judge(self, runs: int, allowed: int) -> Growth:
        """Run until there are so many *runs*, and return what they say."""
        while self.runs < runs:
            self._run()
            self.runs += 1
            if not tracing.is_on():
                raise TracingStoppedError
            self._levels[self.runs] = level()
        return judge(self._levels[: runs + 1], allowed, final=runs == len(self._levels) - 1)


def _confirm(
    run: Callable[[], object],
    tracer: tracing.Tracer,
    runner: Runner,
    *,
    allowed: int,
    warmup: int,
    counted: int,
) -> Finding:
    """Run the test as many times again, between two snapshots."""
    tracer.abandon()
    tracer.start(STACKS, to_photograph=False)
    run()  # so that what each run replaces is known again
    levels = _Levels(run, counted)
    parts = []
    before = tracing.snapshot()
    for runs in thirds(counted):
        growth = levels.judge(runs, allowed)
        after = tracing.snapshot()
        if before is None or after is None:
            raise TracingStoppedError
        parts.append(by_line(tracing.stacks(after, before), runner))
        before = after
    del before, after
    runs = warmup + counted + 1 + counted
    sites = grown_each_time(parts)
    per_run = sum(site.bytes for site in sites) // counted
    if growth.kind != "leak" or per_run <= allowed:
        at_most = min(per_run, growth.bytes_per_run)
        return Finding(bytes_per_run=at_most, runs=runs, failure=None)
    lines = [site.location for site in sites[:_SHOWN_HOLDERS]]
    holders = holders_of(lines, tracer)
    details = [f"in {counted} more runs:", *report.lines_of(sites, holders)]
    failure = report.survives(per_run, allowed, counted, warmup, details)
    return Finding(bytes_per_run=per_run, runs=runs, failure=failure)
