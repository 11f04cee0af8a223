"""Looks at what is allocated, for at most 1 % of the time."""

from __future__ import annotations

import functools
import time
import tracemalloc
from collections.abc import Callable

from memguard.guard.owner import MemoryGuard
from memguard.integrations.allocated import AllocatedSource, allocated_source, read_allocated
from memguard.relief.failures import Failures

_REST = 200
"""Times what one look cost, of which a request needs two: 1 % of the time."""


class Meter:
    """
    Look at what is allocated, where that would be a measure of a request.

    Bounded by: a few numbers.
    Locks: none; a race costs one look more.
    Keeps alive: the guard.
    """

    def __init__(
        self,
        read: Callable[[], int | None] | None,
        *,
        guard: MemoryGuard | None,
        failures: Failures,
        rests: bool,
    ) -> None:
        self._given = read
        self._rest = _REST if rests else 0
        self._guard = guard
        self._failures = failures
        self._read: Callable[[], int | None] | None = None
        self._rests_until = 0.0
        self.source: AllocatedSource | None = None
        """What is read; None before `prepare`."""

    def prepare(self) -> None:
        """Find out what can be read; not at construction, for it loads ctypes."""
        self.source = allocated_source()
        self._read = self._given or functools.partial(read_allocated, self.source)

    @property
    def is_rested(self) -> bool:
        """Whether the last look is paid for."""
        return time.monotonic() >= self._rests_until

    def look(self) -> int | None:
        """Return the bytes that are allocated; None when they would be no measure. Never raises."""
        # Where tracemalloc is on, its own notes grow with every request; and what is given back
        # under pressure was not taken by this one.
        guard = self._guard
        if tracemalloc.is_tracing() or self._read is None:
            return None
        if guard is not None and guard.level in ("elevated", "critical"):
            return None
        began = time.thread_time()
        try:
            found = self._read()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("read", error)
            return None
        # Processor time: a thread that waits for its turn has cost nobody anything.
        self._rests_until = time.monotonic() + self._rest * (time.thread_time() - began)
        return found
