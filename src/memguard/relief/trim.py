"""
Trimming the C allocator as a relief step: not too often, and only if it frees anything.

What glibc calls free includes pages that an earlier trim returned, which stay counted. So what was
still called free right after a trim is remembered, and only what has become free since then is
taken for memory that a trim would return.
"""

from __future__ import annotations

from collections.abc import Callable

from memguard.observe import allocator
from memguard.observe.allocator import AllocatorState, read_allocator

_CRITICAL_INTERVAL = 0.1
_MOST_SHARE = 0.05
"""Of the time, that trimming may take."""


class Trimming:
    """
    Have the C allocator return free memory, once in a while, in a twentieth of the time at most.

    Bounded by: three numbers.
    Locks: none; the allocator holds the lock of each arena in turn while it walks it.
    Keeps alive: nothing.
    """

    def __init__(
        self,
        interval: float,
        *,
        timer: Callable[[], float],
        trim: Callable[[], bool | None] = allocator.trim,
        read: Callable[[], AllocatorState] = read_allocator,
    ) -> None:
        self._interval = interval
        self._timer = timer
        self._trim = trim
        self._read = read
        self._gone = 0
        self._not_before = self._soonest = float("-inf")

    def is_due(self, *, critical: bool) -> bool:
        """Return whether enough time has passed since the last one."""
        # At critical, what the last one took counts, not the interval.
        return self._timer() >= (self._soonest if critical else self._not_before)

    def held_back(self) -> int | None:
        """
        Return about how many bytes the allocator holds that the program has freed.

        None if that is unknown. Too high at most by what was released already
        when the process began; the first trim corrects that.
        """
        state = self._read()
        if not state.can_trim or state.free is None:
            return None
        self._gone = min(self._gone, state.free)
        return state.free - self._gone

    def run(self, *, critical: bool, force: bool = False) -> str | None:
        """Trim; return why it was not done, or None."""
        if not force and not self.is_due(critical=critical):
            return "done a moment ago"
        began = self._timer()
        done = self._trim()
        self._gone = self._read().free or 0
        now = self._timer()
        pause = (now - began) / _MOST_SHARE
        self._soonest = began + max(_CRITICAL_INTERVAL, pause)
        self._not_before = began + max(self._interval, pause)
        return None if done is not None else "this process runs on a malloc that cannot be asked"
