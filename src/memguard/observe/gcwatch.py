"""
What the garbage collector costs and yields: pauses, objects, its share of the time.

The callback in ``gc.callbacks`` runs inside the collector: it bumps integers and appends to a ring,
takes no lock, and calls no Python but the timer.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, final

from memguard import log
from memguard.bounded.options import check_int
from memguard.errors import LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.fork import call_in_child, check
from memguard.lifecycle.service import Service

PAUSE_BOUNDS_NS = tuple(
    round(milliseconds * 1_000_000)
    for milliseconds in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
)
"""Upper bounds of the histogram's buckets, nanoseconds; one more bucket takes what is longer."""

GENERATIONS = 3
_TOTAL, _MAX, _LAST, _COLLECTED, _UNCOLLECTABLE, _HISTOGRAM = range(6)
_ROW = _HISTOGRAM + len(PAUSE_BOUNDS_NS) + 1


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
class GcWatch(Service):
    """
    Counts what ``gc`` does, through ``gc.callbacks``.

    The callback only counts. Log lines come from `tick`.

    Bounded by: three rows of counters and *ring* collections; older ones are dropped and counted.
    Locks: one re-entrant mutex around its own fields; the callback takes none.
    Keeps alive: nothing of the host's. ``gc.callbacks`` holds the numbers, not the watch,
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
            TypeError: *ring* is not an int.
            ConfigError: *ring* is out of range.
        """
        self._ring = check_int(ring, "ring", 1, 65536)
        self._log_collections = log_collections
        self._timer_ns = timer_ns
        self._tally = Tally(ring=ring, timer_ns=timer_ns, forks=_forks)
        # Re-entrant: copying the numbers may start a collection, and a finalizer may ask for
        # statistics.
        self._lock = locks.RLock()
        self._callbacks = gc.callbacks
        self._pid = os.getpid()
        self._started_ns: int | None = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0

    def start(self) -> Self:
        """
        Hook into the collector, and return the watch.

        Raises:
            LifecycleError: It is started already.
        """
        self._after_fork()
        call_in_child(_count_fork)
        with self._lock:
            if self._started_ns is not None:
                raise LifecycleError("this GcWatch is already started; stop() it first")
            self._tally.begin()
            self._started_ns = self._timer_ns()
            self._callbacks.append(self._tally.callback)
        return self

    def stop(self, timeout: float = 5.0) -> bool:  # noqa: ARG002 - reason: there is nothing to wait for
        """Unhook from the collector, and return True. Idempotent; the counters stay."""
        self._after_fork()
        with self._lock:
            if self._started_ns is None:
                return True
            self._watched_ns += self._timer_ns() - self._started_ns
            self._started_ns = None
        self._unhook()
        return True

    def tick(self) -> tuple[Collection, ...]:
        """
        Return the collections since the last tick, oldest first, and log them if asked to.

        Thread-safe: yes. Not to be called from a callback of the collector or a finalizer.
        """
        self._after_fork()
        with self._lock:
            _, recent, written = self._tally.copy()
            new = min(written - self._drained, self._ring)
            self._dropped += written - self._drained - new
            self._drained = written
        found = tuple(_collection(*each) for each in recent[len(recent) - new :])
        if self._log_collections:
            for collection in found:
                log.event(
                    log.INFO,
                    "gc.collected",
                    generation=collection.generation,
                    pause_ms=round(collection.pause * 1000, 3),
                    collected=collection.collected,
                    uncollectable=collection.uncollectable,
                )
        return found

    @property
    def last_full_pause(self) -> float | None:
        """Seconds that the last collection of all generations took; None before one was seen."""
        return self._tally.rows[-1][_LAST] / 1e9 or None

    def statistics(self) -> GcStatistics:
        """Return what was counted so far. Thread-safe; it reads a copy."""
        self._after_fork()
        with self._lock:
            rows, _, written = self._tally.copy()
            started = self._started_ns
            watched = self._watched_ns + (0 if started is None else self._timer_ns() - started)
            dropped = self._dropped + max(0, written - self._drained - self._ring)
        generations = tuple(_generation(number, row) for number, row in enumerate(rows))
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
            self._callbacks.remove(self._tally.callback)

    def __del__(self) -> None:
        """Unhook a watch that nobody stopped."""
        if hasattr(self, "_tally"):
            self._unhook()

    def _after_fork(self) -> None:
        """In a forked child: stopped, counters at zero, and a lock that nobody holds."""
        check()  # first: it counts the fork, and what has begun before that would count no more
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = locks.RLock()
        self._unhook()
        self._tally.reset()
        self._started_ns = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0


_forks = [0]
"""Forks since the first watch was started; in a list, for the callback to look at."""


def _count_fork() -> None:
    _forks[0] += 1


@final
class Tally:
    """
    The counts, and the callback for ``gc.callbacks`` that writes them and refers to nothing else.

    Bounded by: three rows and *ring* collections.
    Locks: none.
    Keeps alive: numbers.
    """

    __tally__ = ("began", "callback", "epoch", "forks", "recent", "rows", "turn", "written")

    def __init__(self, *, ring: int, timer_ns: Callable[[], int], forks: list[int]) -> None:
        self.forks = forks
        self.recent: deque[tuple[int, int, int, int, int]] = deque(maxlen=ring)
        self.callback = _make_callback(self, timer_ns)
        self.reset()

    def reset(self) -> None:
        """Set all to zero; only where nobody writes: when it is made, and in a forked child."""
        self.turn = 0  # odd while the callback writes
        self.written = 0  # collections ever entered
        self.rows = [[0] * _ROW for _ in range(GENERATIONS)]
        self.recent.clear()
        self.begin()

    def begin(self) -> None:
        """Let the callback count in this process from the next collection on."""
        self.epoch = self.forks[0]  # a callback of another epoch does nothing
        self.began = 0  # when the running collection began, 0 when none does

    def copy(self) -> tuple[list[list[int]], list[tuple[int, int, int, int, int]], int]:
        """Return rows, recent collections and the count of all, from one moment if possible."""
        # Another thread's callback may be interrupted between two numbers. It needs microseconds,
        # but many busy threads may run before it; then its collection is counted in part.
        for _ in range(100):
            turn = self.turn
            copied = [row[:] for row in self.rows], list(self.recent), self.written
            if turn == self.turn and turn % 2 == 0:
                break
            time.sleep(0.0001)
        return copied


def _make_callback(
    tally: Tally, timer_ns: Callable[[], int]
) -> Callable[[str, dict[str, int]], None]:
    def on_collection(phase: str, info: dict[str, int]) -> None:
        if tally.epoch != tally.forks[0]:
            return
        if phase == "start":
            tally.began = timer_ns()
            return
        began, tally.began = tally.began, 0
        if began == 0:
            return  # hooked while this collection was running
        pause = timer_ns() - began
        generation = min(info["generation"], GENERATIONS - 1)
        collected, uncollectable = info["collected"], info["uncollectable"]
        tally.turn += 1
        row = tally.rows[generation]
        row[_TOTAL] += pause
        row[_MAX] = max(row[_MAX], pause)
        row[_LAST] = pause
        row[_COLLECTED] += collected
        row[_UNCOLLECTABLE] += uncollectable
        row[_HISTOGRAM + bisect_left(PAUSE_BOUNDS_NS, pause)] += 1
        tally.recent.append((generation, began, pause, collected, uncollectable))
        tally.written += 1
        tally.turn += 1

    return on_collection


def _collection(generation: int, began: int, pause: int, found: int, dead: int) -> Collection:
    return Collection(
        generation=generation,
        began=began / 1e9,
        pause=pause / 1e9,
        collected=found,
        uncollectable=dead,
    )


def _generation(number: int, row: list[int]) -> GenerationStatistics:
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
