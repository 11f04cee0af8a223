"""Minutes on their way to the file: queued, written, kept for later when the file fails."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from memguard import log
from memguard.observe._history_file import HistoryFile
from memguard.observe._rollup import Bucket

WAITING = 120
"""Minutes kept for a file that cannot be written at the moment."""


@dataclass(slots=True)
class Failures:
    """What went wrong with a file. A fresh one says that nothing did."""

    count: int = 0
    last: str | None = None
    """The last failure; None after a write that succeeded."""
    logged: set[str] = field(default_factory=set)
    """Kinds of errors that are in the log already, once each."""


class Journal:
    """
    Brings minutes to a `HistoryFile` and never lets it fail its caller.

    Bounded by: 120 waiting minutes; older ones are dropped and counted.
    Locks: one mutex around the queue, held for no I/O; one around the file.
    Keeps alive: the file.
    """

    def __init__(self, file: HistoryFile) -> None:
        self.file = file
        self.dropped = 0
        self.failures = Failures()
        self._waiting: deque[Bucket] = deque()
        # Re-entrant: a collection that starts in here may run a finalizer that comes back.
        self._lock = threading.RLock()
        self._file_lock = threading.RLock()

    def add(self, minute: Bucket) -> None:
        """Queue *minute*; no I/O."""
        with self._lock:
            if len(self._waiting) >= WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(minute)

    def write(self) -> None:
        """Write what waits. A failure is counted, logged once a kind, and made up for later."""
        if not self._waiting:
            return
        with self._file_lock:
            with self._lock:
                minutes = tuple(self._waiting)
            if not minutes:
                return
            try:
                self.file.write(minutes)
            except Exception as error:  # noqa: BLE001 - reason: a full disk must not reach the host's tick
                self._failed(error)
                return
            with self._lock:
                self.failures.last = None
                # The queue may have dropped some of them meanwhile, and new ones are behind them.
                written = set(map(id, minutes))
                while self._waiting and id(self._waiting[0]) in written:
                    self._waiting.popleft()

    def read(self, newer: Callable[[], tuple[Bucket, ...]]) -> tuple[Bucket, ...] | None:
        """
        Return what is in the file and what *newer* gives; None where the file cannot be read.

        *newer* is called while no write can move a minute from the queue to the file, so that
        nothing is told twice or left out.
        """
        with self._file_lock:
            try:
                stored = self.file.read()
            except Exception as error:  # noqa: BLE001 - reason: the caller still has this run in memory
                self._failed(error)
                return None
            return (*stored, *newer())

    def pending(self) -> tuple[Bucket, ...]:
        """Return the minutes that wait."""
        with self._lock:
            return tuple(self._waiting)

    def waiting(self) -> int:
        """Return how many minutes wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        with self._file_lock:
            self.file.close()

    def _failed(self, error: Exception) -> None:
        kind = type(error).__name__
        with self._lock:
            self.failures.count += 1
            self.failures.last = f"{kind}: {error}"
            new = kind not in self.failures.logged
            self.failures.logged.add(kind)
        if new:
            log.event(logging.WARNING, "history.file_failed", error=f"{kind}: {error}")
