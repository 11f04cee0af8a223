"""By how much the memory of a worker grows with each kind of task. Pure, but for one mutex."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from memguard.lifecycle.fork import reset_after_fork

MOST_NAMES = 200
OTHERS = "(other tasks)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGrowth:
    """What one kind of task did to the memory of this process. Bytes."""

    name: str
    """The task's, or ``(other tasks)`` for those beyond the first two hundred."""
    runs: int
    """How many runs were measured."""
    grown: int
    """By how much memory was higher after all of them together than before; may be negative."""
    largest: int
    """The most that one run added."""


class GrowthTable:
    """
    Add up, by the name of the task, what its runs added to this process's memory.

    Bounded by: two hundred names; the rest is added up under one more.
    Locks: one mutex around the sums.
    Keeps alive: names.

    In a forked child it is empty.
    """

    def __init__(self) -> None:
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Begin anew; runs in a forked child."""
        self._lock = threading.Lock()
        self._sums: dict[str, tuple[int, int, int]] = {}

    def add(self, name: str, grown: int) -> None:
        """Add one run of *name*, after which there were *grown* bytes more. Thread-safe; 1 µs."""
        with self._lock:
            if name not in self._sums and len(self._sums) >= MOST_NAMES:
                name = OTHERS
            runs, total, largest = self._sums.get(name, (0, 0, grown))
            self._sums[name] = (runs + 1, total + grown, max(largest, grown))

    def rows(self) -> tuple[TaskGrowth, ...]:
        """Return what is known, the one that added most first. Thread-safe."""
        with self._lock:
            sums = list(self._sums.items())
        found = [
            TaskGrowth(name=name, runs=runs, grown=total, largest=largest)
            for name, (runs, total, largest) in sums
        ]
        return tuple(sorted(found, key=lambda row: (-row.grown, row.name)))
