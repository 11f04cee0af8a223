"""
What the garbage collector costs and yields: pauses, objects, its share of the time.

The callback in ``gc.callbacks`` runs inside the collector: it writes integers into a list made
beforehand, takes no lock, and calls nothing but the timer. A reader copies the list in one step.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from memguard import log
from memguard.bounded.options import check_int
from memguard.errors import LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import call_in_child

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GcStatistics:
    """What the garbage collector did while it was watched. Seconds."""

    running: bool
    """True while watching."""
    watched_seconds: float
    """Time under watch, all starts together."""
    wall_share: float
    """Part of that time that went into pauses, 0 to 1."""
    generations: tuple[GenerationStatistics, ...]
    """Youngest first."""
    dropped: int
    """Collections that passed between two ticks beyond what the ring holds; counted, not logged."""

    @property
    def collections(self) -> int:
        """Collections of all generations."""
        return sum(generation.collections for generation in self.generations)

    @property
    def pause_total(self) -> float:
        """All pauses together."""
        return sum(generation.pause_total for generation in self.generations)

    @property
    def pause_max(self) -> float:
        """The longest pause of all."""
        return max(generation.pause_max for generation in self.generations)

    @property
    def collected(self) -> int:
        """Objects freed in all generations."""
        return sum(generation.collected for generation in self.generations)

    @property
    def uncollectable(self) -> int:
        """Objects of all generations that were found dead and not freed."""
        return sum(generation.uncollectable for generation in self.generations)


@final
class GcWatch:
    """
    Counts what ``gc`` does, through ``gc.callbacks``.

    The callback only writes integers into a list made beforehand. Log lines come from `tick`.

    Bounded by: three rows of counters and *ring* collections; older ones are dropped and counted.
    Locks: one re-entrant mutex around its own fields; the callback takes none.
    Keeps alive: nothing of the host's. ``gc.callbacks`` holds the list of numbers, not the watch,
        until `stop`; a watch that is dropped unhooks itself.
    """

    def __init__(
        self,
        *,
        log_collections: bool = False,
        ring: int = 128,
        timer_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """
        Prepare a watch; nothing is hooked before `start`.

        Args:
            log_collections: `tick` writes one line per collection, at INFO.
            ring: Collections remembered between two ticks, 1 to 65536.
            timer_ns: Nanoseconds, monotonic; runs inside the collector.

        Raises:
            TypeError: *ring* is no int.
            ConfigError: *ring* is out of range.
        """
        self._ring = check_int(ring, "ring", 1, 65536)
        self._log_collections = log_collections
        self._timer_ns = timer_ns
        self._slots = Slots(ring=ring, timer_ns=timer_ns, forks=_forks)
        # Re-entrant: copying the numbers may start a collection, and a finalizer may ask for
        # statistics.
        self._lock = locks.RLock()
        self._callbacks = gc.callbacks
        self._pid = os.getpid()
        self._started_ns: int | None = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0

    def start(self) -> None:
        """
        Hook into the collector.

        Raises:
            LifecycleError: It is started already.
        """
        self._after_fork()
        call_in_child(_count_fork)
        with self._lock:
            if self._started_ns is not None:
                raise LifecycleError("this GcWatch is started already; stop() it first")
            self._slots.begin()
            self._started_ns = self._timer_ns()
            self._callbacks.append(self._slots.callback)

    def stop(self, timeout: float | None = None) -> None:  # noqa: ARG002 - reason: the life cycle of the house; nothing to wait for here
        """Unhook from the collector. Idempotent; the counters stay."""
        self._after_fork()
        with self._lock:
            if self._started_ns is None:
                return
            self._watched_ns += self._timer_ns() - self._started_ns
            self._started_ns = None
        self._unhook()

    def close(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> GcWatch:
        """Start, and return the watch."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def tick(self) -> tuple[Collection, ...]:
        """
        Return the collections since the last tick, oldest first, and log them where asked to.

        Thread-safe: yes. Not to be called from a callback of the collector or a finalizer.
        """
        self._after_fork()
        with self._lock:
            snapshot = self._slots.snapshot()
            first = max(self._drained, snapshot.written - self._ring)
            self._dropped += first - self._drained
            self._drained = snapshot.written
        found = tuple(map(snapshot.collection, range(first, snapshot.written)))
        if self._log_collections:
            for collection in found:
                log.event(
                    logging.INFO,
                    "gc.collected",
                    generation=collection.generation,
                    pause_ms=round(collection.pause * 1000, 3),
                    collected=collection.collected,
                    uncollectable=collection.uncollectable,
                )
        return found

    def statistics(self) -> GcStatistics:
        """Return what was counted so far. Thread-safe; it reads a copy."""
        self._after_fork()
        with self._lock:
            snapshot = self._slots.snapshot()
            started = self._started_ns
            watched = self._watched_ns + (0 if started is None else self._timer_ns() - started)
            dropped = self._dropped + max(0, snapshot.written - self._drained - self._ring)
        generations = tuple(map(snapshot.generation, range(GENERATIONS)))
        pauses = sum(generation.pause_total for generation in generations)
        return GcStatistics(
            running=started is not None,
            watched_seconds=watched / 1e9,
            wall_share=min(1.0, pauses / (watched / 1e9)) if watched > 0 else 0.0,
            generations=generations,
            dropped=dropped,
        )

    def _unhook(self) -> None:
        # One step, so that no other thread can shift the list under an index. It may run the
        # __eq__ of other people's callbacks, so none of our locks is held here.
        with contextlib.suppress(ValueError):
            self._callbacks.remove(self._slots.callback)

    def __del__(self) -> None:
        """Unhook a watch that nobody stopped."""
        if hasattr(self, "_slots"):
            self._unhook()

    def _after_fork(self) -> None:
        """In a forked child: stopped, counters at zero, and a lock that nobody holds."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = locks.RLock()
        self._unhook()
        self._slots.reset()
        self._started_ns = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0


_forks = [0]
"""Forks since the first watch was started; in a list, for the callback to look at."""


def _count_fork() -> None:
    _forks[0] += 1


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
