"""What the garbage collector costs and yields: pauses, objects, its share of the time."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from memguard import log
from memguard.errors import ConfigError, LifecycleError

PAUSE_BOUNDS_NS = tuple(
    round(milliseconds * 1_000_000)
    for milliseconds in (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
)
"""Upper bounds of the histogram's buckets, nanoseconds; one more bucket takes what is longer."""

_GENERATIONS = 3
_BUCKETS = len(PAUSE_BOUNDS_NS) + 1

# All numbers of a watch live in one list of integers. The callback writes only there, and a reader
# copies it in one step.
_TURN = 0  # odd while the callback writes
_EPOCH = 1  # forks seen when the watch was started; a callback of another epoch does nothing
_BEGAN = 2  # when the running collection began, 0 when none does
_WRITTEN = 3  # collections put in the ring
_TABLE = 4
_COUNT, _TOTAL, _MAX, _COLLECTED, _UNCOLLECTABLE, _HISTOGRAM = range(6)
_ROW = _HISTOGRAM + _BUCKETS
_RING = _TABLE + _GENERATIONS * _ROW
_ENTRY = 5  # generation, began, pause, collected, uncollectable

_forks = [0]
_hooked = False


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
class GcWatch:
    """
    Counts what ``gc`` does, through ``gc.callbacks``.

    The callback runs inside the collector and writes integers into a list made beforehand; it
    takes no lock, calls nothing of ours and logs nothing. Log lines come from `tick`.

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
        if isinstance(ring, bool) or not isinstance(ring, int):
            raise TypeError(f"ring must be a number of collections (got {type(ring).__name__})")
        if not 1 <= ring <= 65536:
            raise ConfigError(f"ring must be 1 to 65536 collections (got {ring})")
        self._log_collections = log_collections
        self._ring = ring
        self._timer_ns = timer_ns
        self._slots = [0] * (_RING + ring * _ENTRY)
        self._callback = _callback(self._slots, ring, timer_ns)
        # Re-entrant: copying the numbers may start a collection, and a finalizer may ask for
        # statistics.
        self._lock = threading.RLock()
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
        _hook_forks()
        with self._lock:
            if self._started_ns is not None:
                raise LifecycleError("this GcWatch is started already; stop() it first")
            self._slots[_EPOCH] = _forks[0]
            self._slots[_BEGAN] = 0
            self._started_ns = self._timer_ns()
            self._callbacks.append(self._callback)

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
            slots = self._snapshot()
            written = slots[_WRITTEN]
            first = max(self._drained, written - self._ring)
            self._dropped += first - self._drained
            self._drained = written
        found = tuple(_entry(slots, number % self._ring) for number in range(first, written))
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
            slots = self._snapshot()
            started = self._started_ns
            watched = self._watched_ns + (0 if started is None else self._timer_ns() - started)
            dropped = self._dropped + max(0, slots[_WRITTEN] - self._drained - self._ring)
        generations = tuple(_generation(slots, number) for number in range(_GENERATIONS))
        pauses = sum(generation.pause_total for generation in generations)
        return GcStatistics(
            running=started is not None,
            watched_seconds=watched / 1e9,
            wall_share=min(1.0, pauses / (watched / 1e9)) if watched > 0 else 0.0,
            generations=generations,
            dropped=dropped,
        )

    def _snapshot(self) -> list[int]:
        """Return a copy that no callback was half way through writing."""
        # Another thread's callback may be interrupted between two numbers; it needs microseconds.
        for _ in range(100):
            slots = self._slots[:]
            if slots[_TURN] % 2 == 0:
                return slots
            time.sleep(0.0001)
        return slots

    def _unhook(self) -> None:
        # One step, so that no other thread can shift the list under an index. It may run the
        # __eq__ of other people's callbacks, so none of our locks is held here.
        with contextlib.suppress(ValueError):
            self._callbacks.remove(self._callback)

    def __del__(self) -> None:
        """Unhook a watch that nobody stopped."""
        if hasattr(self, "_callback"):
            self._unhook()

    def _after_fork(self) -> None:
        """In a forked child: stopped, counters at zero, and a lock that nobody holds."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._unhook()
        self._slots[:] = [0] * len(self._slots)
        self._started_ns = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0


def _callback(
    slots: list[int], ring: int, timer_ns: Callable[[], int]
) -> Callable[[str, dict[str, int]], None]:
    """Return the function for ``gc.callbacks``; it refers to *slots* and to no watch."""
    forks = _forks
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
        if generation >= _GENERATIONS:
            generation = _GENERATIONS - 1
        collected = info["collected"]
        uncollectable = info["uncollectable"]
        slots[_TURN] += 1
        row = _TABLE + generation * _ROW
        slots[row + _COUNT] += 1
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


def _entry(slots: list[int], place: int) -> Collection:
    at = _RING + place * _ENTRY
    generation, began, pause, collected, uncollectable = slots[at : at + _ENTRY]
    return Collection(
        generation=generation,
        began=began / 1e9,
        pause=pause / 1e9,
        collected=collected,
        uncollectable=uncollectable,
    )


def _generation(slots: list[int], number: int) -> GenerationStatistics:
    row = _TABLE + number * _ROW
    bounds = (*(bound / 1e9 for bound in PAUSE_BOUNDS_NS), float("inf"))
    counts = slots[row + _HISTOGRAM : row + _ROW]
    return GenerationStatistics(
        generation=number,
        collections=slots[row + _COUNT],
        pause_total=slots[row + _TOTAL] / 1e9,
        pause_max=slots[row + _MAX] / 1e9,
        collected=slots[row + _COLLECTED],
        uncollectable=slots[row + _UNCOLLECTABLE],
        histogram=tuple(zip(bounds, counts, strict=True)),
    )


def _hook_forks() -> None:
    """Count forks from the first start on; importing hooks nothing."""
    global _hooked  # noqa: PLW0603 - reason: at-fork hooks cannot be taken back, so once a process
    # No lock, which a fork could copy locked: hooked twice by a race, a fork counts as two, and
    # only "another number" matters.
    if not _hooked and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_count_fork)
    _hooked = True


def _count_fork() -> None:
    _forks[0] += 1
