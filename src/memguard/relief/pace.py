"""Seconds until the next look: short if little memory is left, long at rest. Pure."""

from __future__ import annotations

from memguard.relief.gauge import Look

FASTEST_GROWTH = 4 * 1024**3
"""Bytes a second: what a thread can fill that does nothing else, with huge pages."""
SHORTEST = 0.005
"""While it fills so fast that the limit is a few looks away."""
BUSY = 0.02
AT_REST = 0.2
"""The shortest nap while nothing moves: five glances a second cost 0.03 % of a core."""
_REST_SECONDS = 2.0
_MOVED = 1 / 64
"""Of what is left: below this, nothing has moved."""


class Pace:
    """
    Choose the nap after each look.

    Bounded by: one mark.
    Locks: none; for one thread.
    Keeps alive: numbers.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self.nap = interval
        """The last one."""
        self.is_at_rest = False
        """True when nothing has moved for two seconds."""
        self._mark: int | None = None
        self._moved_at: float | None = None
        self._before: tuple[float, int | None] | None = None

    def next(self, look: Look, *, busy: bool) -> float:
        """Return the seconds until the next look; *busy* while memory is being freed."""
        self.nap = self._next(look, busy=busy)
        return self.nap

    def _next(self, look: Look, *, busy: bool) -> float:
        left, own = look.headroom, look.reading.private
        now = look.sample.at
        if left is None:
            return self._interval
        if self._mark is None or own is None or abs(own - self._mark) > left * _MOVED:
            self._mark = own
            self._moved_at = now
        is_at_rest = self._moved_at is None or now - self._moved_at > _REST_SECONDS
        self.is_at_rest = is_at_rest
        shortest = AT_REST if is_at_rest else BUSY
        longest = min(self._interval, 0.25) if busy and not is_at_rest else self._interval
        before, self._before = self._before, (now, own)
        if before is not None and own is not None and before[1] is not None and now > before[0]:
            rate = (own - before[1]) / (now - before[0])
            if rate > 0 and left / rate < 4 * shortest:
                return max(SHORTEST, left / rate / 4)
        return min(max(left / (2 * FASTEST_GROWTH), shortest), max(longest, BUSY))
