"""``malloc_trim`` as a means of relief: not too often, and not where it does nothing."""

from __future__ import annotations

from collections.abc import Callable

from memguard.observe import allocator

_CRITICAL_INTERVAL = 0.1
_MOST_SHARE = 0.05
"""Of the time, that trimming may take."""


class Trimming:
    """
    Ask glibc for its free memory, once in a while and for at most a twentieth of the time.

    Bounded by: a number.
    Locks: none of ours; glibc holds the lock of each arena in turn while it walks it.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        interval: float,
        *,
        timer: Callable[[], float],
        trim: Callable[[], bool | None] = allocator.trim,
    ) -> None:
        self._interval = interval
        self._timer = timer
        self._trim = trim
        self._not_before = self._soonest = float("-inf")

    def is_due(self, *, critical: bool) -> bool:
        """Return whether enough time has passed since the last one."""
        # At critical, what the last one took counts, not the interval.
        return self._timer() >= (self._soonest if critical else self._not_before)

    def run(self, *, critical: bool, force: bool = False) -> str | None:
        """Trim; return why it was not done, or None."""
        if not force and not self.is_due(critical=critical):
            return "done a moment ago"
        began = self._timer()
        done = self._trim()
        now = self._timer()
        pause = (now - began) / _MOST_SHARE
        self._soonest = began + max(_CRITICAL_INTERVAL, pause)
        self._not_before = began + max(self._interval, pause)
        return None if done is not None else "this process does not run on glibc's malloc"
