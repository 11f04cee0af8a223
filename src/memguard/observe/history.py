"""The history of memory: a bounded ring of readings, minutes and hours, optionally in a file."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from memguard.bounded.options import check_instance, check_int
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.observe.history_file import HistoryFile, Journal
from memguard.observe.readings import Reading
from memguard.observe.rollup import (
    HOUR,
    MINUTE,
    Bucket,
    Hour,
    HourKind,
    HourThresholds,
    describe,
    minute_of,
    percentile,
    roll_up,
)

__all__ = ["Bucket", "History", "HistoryStatistics", "Hour", "HourKind", "HourThresholds"]

_READINGS_PER_MINUTE = 6000
"""Readings kept of the minute that runs: one every 10 ms; more often means thinning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStatistics:
    """What a `History` holds and what it had to let go."""

    readings: int
    """Readings in the ring."""
    added: int
    """Readings ever added."""
    blind: int
    """Rows without a private size; they are in the ring and in no minute."""
    thinned: int
    """Readings left out of their minute because it had too many already."""
    minutes: int
    """Minutes in memory."""
    hours: int
    """Hours in memory."""
    hours_dropped: int
    """Hours that fell off the end, in memory or in the file."""
    file: str | None
    """The file, None without one, or after a fork: a child does not write its parent's file."""
    file_errors: int
    """Failed writes and reads."""
    file_error: str | None
    """The last failure; None after a success."""
    unwritten: int
    """Minutes that wait for the file."""
    unwritten_dropped: int
    """Minutes that waited too long."""


@final
class History:
    """
    The last readings one by one, the last day by minutes, the last weeks by hours.

    With *path*, minutes and hours outlive the process. One process writes a file; others may read
    it (SQLite, WAL). The caller of `add` pays for the write, about once a minute.

    Bounded by: *maxlen* readings, *keep_minutes* and *keep_hours* buckets (of about 0.5 KiB), the
        same in the file.
    Locks: one mutex around the lists, held for no I/O, and those of the file; no code of the
        host's runs under them.
    Keeps alive: the readings, which are numbers only.
    """

    def __init__(
        self,
        *,
        maxlen: int = 720,
        keep_minutes: int = 1440,
        keep_hours: int = 24 * 60,
        path: str | os.PathLike[str] | None = None,
        thresholds: HourThresholds | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Make an empty history, or continue the one in *path*.

        Args:
            maxlen: Readings in the ring, 1 to 1,000,000.
            keep_minutes: Minutes kept before they are rolled up to hours, 1 to 100,000.
            keep_hours: Hours kept, 1 to 100,000.
            path: An SQLite file of its own; made with mode 0600 if it is not there.
            thresholds: What growth is called what.
            clock: Seconds since the epoch.

        Raises:
            TypeError: An option is of the wrong kind.
            ConfigError: It is out of range, or *path* is a file of someone else's.
            LifecycleError: *path* has a writer already.
            OSError: *path* cannot be made.
        """
        check_int(maxlen, "maxlen", 1, 1_000_000)
        check_int(keep_minutes, "keep_minutes", 1, 100_000)
        check_int(keep_hours, "keep_hours", 1, 100_000)
        check_instance(thresholds, HourThresholds, "thresholds", optional=True)
        self._thresholds = thresholds or HourThresholds()
        self._clock = clock
        self._ring: deque[Reading] = deque(maxlen=maxlen)
        self._keep_minutes = keep_minutes
        self._keep_hours = keep_hours
        self._minutes: deque[Bucket] = deque()
        self._hours: deque[Bucket] = deque()
        self._current: list[int] = []
        self._current_start = 0
        self._added = 0
        self._blind = 0
        self._thinned = 0
        self._hours_dropped = 0
        # Re-entrant: a collection that starts in here may run a finalizer that comes back.
        self._lock = locks.RLock()
        self._pid = os.getpid()
        self._run = f"{self._pid}-{clock():.3f}"
        self._closed = False
        self._journal = (
            None
            if path is None
            else Journal(HistoryFile(Path(path), keep_minutes=keep_minutes, keep_hours=keep_hours))
        )

    # --- writing ---------------------------------------------------------------------------------

    def add(self, reading: Reading) -> None:
        """
        Remember *reading*. Never fails for the file's sake: failures are counted and logged once.

        Thread-safe: yes. Cost: about 1 µs; when a minute ends, a write of some ms with a file.

        Raises:
            LifecycleError: The history is closed.
        """
        self._after_fork()
        wall = self._clock()
        with self._lock:
            if self._closed:
                raise LifecycleError("this History is closed; make a new one")
            start = int(wall // MINUTE) * MINUTE
            if start != self._current_start:
                self._end_minute()
                self._current_start = start
            self._added += 1
            self._ring.append(reading)
            private = reading.private
            if private is None:
                self._blind += 1
            elif len(self._current) < _READINGS_PER_MINUTE:
                self._current.append(private)
            else:
                self._thinned += 1
            journal = self._journal
        if journal is not None:
            journal.write()

    def flush(self) -> None:
        """End the running minute and write what waits for the file. Thread-safe; never raises."""
        self._after_fork()
        with self._lock:
            self._end_minute()
            journal = self._journal
        if journal is not None:
            journal.write()

    def close(self) -> None:
        """Flush, and release the file. Idempotent; queries still work, from memory."""
        self.flush()
        with self._lock:
            self._closed = True
            journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def __enter__(self) -> History:
        """Return the history."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _end_minute(self) -> None:
        """Turn the running minute into a bucket. Under the lock."""
        if not self._current:
            return
        minute = minute_of(self._run, self._current_start, self._current)
        self._current = []
        self._minutes.append(minute)
        if self._journal is not None:
            self._journal.add(minute)
        while len(self._minutes) > self._keep_minutes:
            oldest = self._minutes.popleft()
            newest_hour = [self._hours.pop()] if self._hours else []
            self._hours.extend(roll_up((*newest_hour, oldest), seconds=HOUR))
        while len(self._hours) > self._keep_hours:
            self._hours.popleft()
            self._hours_dropped += 1

    # --- asking ----------------------------------------------------------------------------------

    def last(self, count: int | None = None) -> tuple[Reading, ...]:
        """
        Return the last *count* readings, oldest first; all that are in the ring when None.

        Raises:
            ConfigError: *count* is negative.
        """
        if count is not None and count < 0:
            raise ConfigError(f"count must be >= 0 readings (got {count})")
        self._after_fork()
        with self._lock:
            readings = tuple(self._ring)
        return readings if count is None else readings[max(0, len(readings) - count) :]

    def minutes(self) -> tuple[Bucket, ...]:
        """Return the minutes in memory, the running one included, oldest first."""
        self._after_fork()
        with self._lock:
            return tuple(roll_up((*self._minutes, *self._running()), seconds=MINUTE))

    def hours(self) -> tuple[Hour, ...]:
        """
        Return what each hour was like, oldest first; those of earlier runs too with a file.

        Thread-safe: yes. Cost: milliseconds; reads the file.
        """
        self._after_fork()
        return tuple(
            describe(bucket, self._thresholds)
            for bucket in roll_up(self._all_buckets(), seconds=HOUR)
        )

    def percentiles(
        self, percents: Iterable[float] = (50, 90, 95, 99), *, field: str = "private"
    ) -> dict[float, float]:
        """
        Return percentiles of *field* over the readings in the ring; empty if none has it.

        Args:
            percents: 0 to 100 each.
            field: A number of `Reading`: ``"private"``, ``"rss"``, ``"threads"``, …

        Raises:
            ConfigError: A percent is out of range, or *field* is not a numeric field of a reading.
        """
        wanted = tuple(percents)
        values = []
        for reading in self.last():
            value = getattr(reading, field, "")
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ConfigError(f"field must name a number of Reading (got {field!r})")
                values.append(value)
        values.sort()
        return {percent: percentile(values, percent) for percent in wanted} if values else {}

    def statistics(self) -> HistoryStatistics:
        """Return what is held and what was let go. Thread-safe."""
        self._after_fork()
        with self._lock:
            journal = self._journal
            return HistoryStatistics(
                readings=len(self._ring),
                added=self._added,
                blind=self._blind,
                thinned=self._thinned,
                minutes=len(self._minutes) + bool(self._current),
                hours=len(self._hours),
                hours_dropped=self._hours_dropped if journal is None else journal.file.dropped,
                file=None if journal is None else str(journal.file.path),
                file_errors=0 if journal is None else journal.failures.count,
                file_error=None if journal is None else journal.last_failure,
                unwritten=0 if journal is None else journal.waiting(),
                unwritten_dropped=0 if journal is None else journal.dropped,
            )

    def _running(self) -> tuple[Bucket, ...]:
        current = self._current
        return (minute_of(self._run, self._current_start, current),) if current else ()

    def _all_buckets(self) -> tuple[Bucket, ...]:
        """Return the buckets of the file and what is not in it yet, or else those in memory."""
        journal = self._journal
        if journal is not None:

            def newer() -> tuple[Bucket, ...]:
                with self._lock:
                    return (*journal.pending(), *self._running())

            stored = journal.read(newer)
            if stored is not None:
                return stored
        with self._lock:
            return (*self._hours, *self._minutes, *self._running())

    def _after_fork(self) -> None:
        """In a forked child: an empty history of its own, in memory, with new locks."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._lock = locks.RLock()
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.file.close()  # past the journal's locks, which the fork may have copied locked
        self._run = f"{self._pid}-{self._clock():.3f}"
        self._ring.clear()
        self._minutes.clear()
        self._hours.clear()
        self._current = []
        self._added = self._blind = self._thinned = 0
        self._hours_dropped = 0
