"""
The numbers of a `GcWatch`, all in one list, and the callback that writes them.

The callback runs inside the collector: it writes integers into a list made beforehand, takes no
lock, and calls nothing but the timer. A reader copies the list in one step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

PAUSE_BOUNDS_NS = tuple(
    round(milliseconds * 1_000_000)
    for milliseconds in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
)
"""Upper bounds of the histogram's buckets, nanoseconds; one more bucket takes what is longer."""

GENERATIONS = 3
_BUCKETS = len(PAUSE_BOUNDS_NS) + 1

_TURN = 0  # odd while the callback writes
_EPOCH = 1  # forks seen when the watch was started; a callback of another epoch does nothing
_BEGAN = 2  # when the running collection began, 0 when none does
_WRITTEN = 3  # collections put in the ring
_TABLE = 4
_TOTAL, _MAX, _COLLECTED, _UNCOLLECTABLE, _HISTOGRAM = range(5)
_ROW = _HISTOGRAM + _BUCKETS
_RING = _TABLE + GENERATIONS * _ROW
_ENTRY = 5  # generation, began, pause, collected, uncollectable


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationStatistics:
    """What the collections of one generation cost and found. Seconds."""

    generation: int
    """0 is the youngest."""
    collections: int
    """Collections seen."""
    pause_total: float
    """All pauses together."""
    pause_max: float
    """The longest pause."""
    collected: int
    """Objects freed."""
    uncollectable: int
    """Objects found dead and not freed; they are in ``gc.garbage``."""
    histogram: tuple[tuple[float, int], ...]
    """Pauses by length: (upper bound in seconds, pauses up to it and above the last bound)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One run of the garbage collector."""

    generation: int
    """0 is the youngest."""
    began: float
    """When it began, seconds on ``time.perf_counter``."""
    pause: float
    """How long it took, seconds. What other ``gc.callbacks`` do meanwhile is in it."""
    collected: int
    """Objects freed."""
    uncollectable: int
    """Objects found dead and not freed."""


@final
class Slots:
    """
    The list, and the callback for ``gc.callbacks`` that writes it and refers to nothing else.

    Bounded by: three rows and *ring* collections, made at once.
    Locks: none.
    Keeps alive: numbers.
    """

    def __init__(self, *, ring: int, timer_ns: Callable[[], int], forks: list[int]) -> None:
        self._numbers = [0] * (_RING + ring * _ENTRY)
        self._ring = ring
        self._forks = forks
        self.callback = _make_callback(self._numbers, ring=ring, timer_ns=timer_ns, forks=forks)

    def begin(self) -> None:
        """Let the callback count in this process from the next collection on."""
        self._numbers[_EPOCH] = self._forks[0]
        self._numbers[_BEGAN] = 0

    def reset(self) -> None:
        """Set all to zero; only for a forked child, where nobody writes."""
        self._numbers[:] = [0] * len(self._numbers)

    def snapshot(self) -> Snapshot:
        """Return a copy that no callback was half way through writing, if that can be had."""
        # Another thread's callback may be interrupted between two numbers. It needs microseconds,
        # but many busy threads may be let run before it; then its collection is counted in part.
        for _ in range(100):
            numbers = self._numbers[:]
            if numbers[_TURN] % 2 == 0:
                break
            time.sleep(0.0001)
        return Snapshot(numbers, self._ring)


@final
class Snapshot:
    """The numbers at one moment, with names."""

    __slots__ = ("_numbers", "_ring", "written")

    def __init__(self, numbers: list[int], ring: int) -> None:
        self._numbers = numbers
        self._ring = ring
        self.written = numbers[_WRITTEN]
        """Collections ever put in the ring."""

    def collection(self, number: int) -> Collection:
        """Return collection *number*, one of the last that the ring holds."""
        at = _RING + number % self._ring * _ENTRY
        generation, began, pause, collected, uncollectable = self._numbers[at : at + _ENTRY]
        return Collection(
            generation=generation,
            began=began / 1e9,
            pause=pause / 1e9,
            collected=collected,
            uncollectable=uncollectable,
        )

    def generation(self, number: int) -> GenerationStatistics:
        """Return what was counted for generation *number*."""
        row = self._numbers[_TABLE + number * _ROW :][:_ROW]
        bounds = (*(bound / 1e9 for bound in PAUSE_BOUNDS_NS), float("inf"))
        return GenerationStatistics(
            generation=number,
            collections=sum(row[_HISTOGRAM:]),  # so the two agree in any copy
            pause_total=row[_TOTAL] / 1e9,
            pause_max=row[_MAX] / 1e9,
            collected=row[_COLLECTED],
            uncollectable=row[_UNCOLLECTABLE],
            histogram=tuple(zip(bounds, row[_HISTOGRAM:], strict=True)),
        )


def _make_callback(
    slots: list[int], *, ring: int, timer_ns: Callable[[], int], forks: list[int]
) -> Callable[[str, dict[str, int]], None]:
    """Return the function for ``gc.callbacks``; it refers to *slots* only."""
    bounds = PAUSE_BOUNDS_NS

    def on_collection(phase: str, info: dict[str, int]) -> None:
        if slots[_EPOCH] != forks[0]:
            return
        if phase == "start":
            slots[_BEGAN] = timer_ns()
            return
        began = slots[_BEGAN]
        if began == 0:
            return  # hooked while this collection was running
        slots[_BEGAN] = 0
        pause = timer_ns() - began
        generation = info["generation"]
        if generation >= GENERATIONS:
            generation = GENERATIONS - 1
        collected = info["collected"]
        uncollectable = info["uncollectable"]
        slots[_TURN] += 1
        row = _TABLE + generation * _ROW
        slots[row + _TOTAL] += pause
        slots[row + _MAX] = max(slots[row + _MAX], pause)
        slots[row + _COLLECTED] += collected
        slots[row + _UNCOLLECTABLE] += uncollectable
        bucket = 0
        for bound in bounds:
            if pause <= bound:
                break
            bucket += 1
        slots[row + _HISTOGRAM + bucket] += 1
        entry = _RING + slots[_WRITTEN] % ring * _ENTRY
        slots[entry] = generation
        slots[entry + 1] = began
        slots[entry + 2] = pause
        slots[entry + 3] = collected
        slots[entry + 4] = uncollectable
        slots[_WRITTEN] += 1
        slots[_TURN] += 1

    return on_collection
