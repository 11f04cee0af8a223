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
from memguard.observe.gcslots import (
    GENERATIONS,
    PAUSE_BOUNDS_NS,
    Collection,
    GenerationStatistics,
    Slots,
)

__all__ = ["PAUSE_BOUNDS_NS", "Collection", "GcStatistics", "GcWatch", "GenerationStatistics"]

_forks = [0]
_hooked = False


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
        if isinstance(ring, bool) or not isinstance(ring, int):
            raise TypeError(f"ring must be a number of collections (got {type(ring).__name__})")
        if not 1 <= ring <= 65536:
            raise ConfigError(f"ring must be 1 to 65536 collections (got {ring})")
        self._log_collections = log_collections
        self._ring = ring
        self._timer_ns = timer_ns
        self._slots = Slots(ring=ring, timer_ns=timer_ns, forks=_forks)
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
        self._lock = threading.RLock()
        self._unhook()
        self._slots.reset()
        self._started_ns = None
        self._watched_ns = 0
        self._drained = 0
        self._dropped = 0


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
