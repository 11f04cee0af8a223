"""
What running work may still take of the memory that it requested. Pure: no clock, no I/O, no lock.

Nobody can see which work allocates. What is seen is by how much the process grows: while work runs
that is taken for the work's, each piece of work a share, up to what it requested. Not for its own
is taken what other processes take, what containers of memguard take, and growth beyond all that was
requested: there others are at work, who may have taken the rest as well, so it speaks against the
work by as much again. What is not the work's own stays reserved and is counted as used.
"""

from __future__ import annotations

from collections import deque

_FALL_SECONDS = 2.0
"""How long memory of ended work is expected to be freed: its objects outlive it a little."""
_MOST_FALLS = 1000


class Reserve:
    """
    The memory that one piece of work requested.

    Bounded by: itself.
    Locks: none.
    Keeps alive: numbers.
    """

    __slots__ = ("bytes", "grown")

    def __init__(self, size: int) -> None:
        self.bytes = size
        """As requested."""
        self.grown = 0
        """Its share of the growth since it was admitted."""

    @property
    def taken(self) -> int:
        """How much of the request counts as taken."""
        return self.grown if self.grown <= self.bytes else max(0, 2 * self.bytes - self.grown)

    @property
    def left(self) -> int:
        """How much of the request may still be taken."""
        return self.bytes - self.taken


class Reserves:
    """
    The reserves of all work that is running.

    Bounded by: the running work; 1,000 falls that are awaited.
    Locks: none; for one thread at a time. Where a signal handler breaks a change off, the totals
        are counted anew.
    Keeps alive: numbers.
    """

    def __init__(self) -> None:
        self._running: dict[Reserve, None] = {}
        self._own: int | None = None
        self._falls: deque[list[float]] = deque(maxlen=_MOST_FALLS)
        self._totals: tuple[int, int] | None = (0, 0)

    def __len__(self) -> int:
        """Return the pieces of work that are running."""
        return len(self._running)

    @property
    def promised(self) -> int:
        """Bytes that running work has requested."""
        return self._counted()[1]

    @property
    def left(self) -> int:
        """What running work may still take."""
        return self._counted()[0]

    def add(self, reserve: Reserve) -> None:
        """Reserve from now on."""
        (left, promised), self._totals = self._counted(), None
        self._running[reserve] = None
        self._totals = (left + reserve.bytes, promised + reserve.bytes)

    def remove(self, reserve: Reserve, now: float) -> bool:
        """End the work; return False if it did not run. Its memory is expected to be freed soon."""
        if reserve not in self._running:
            return False
        (left, promised), self._totals = self._counted(), None
        del self._running[reserve]
        if reserve.taken:
            self._falls.append([now + _FALL_SECONDS, reserve.taken])
        self._totals = (left - reserve.left, promised - reserve.bytes)
        return True

    def renew(self, own: int | None, now: float) -> None:
        """
        Take note of what this process has now.

        Args:
            own: Private bytes without those that its containers hold: that a cache fills, or is
                emptied, is not seen in them. None if unknown.
            now: Seconds.
        """
        before, self._own = self._own, own
        if before is None or own is None or before == own:
            return
        self._totals = None
        if own > before:
            self._grow(own - before)
        else:
            self._fall(before - own, now)

    def _grow(self, growth: int) -> None:
        # To each by what it has not taken yet; then to each by what it requested.
        shares = [max(0, each.bytes - each.grown) for each in self._running]
        untaken = sum(shares)
        within = min(growth, untaken)
        requested = sum(each.bytes for each in self._running)
        for each, share in zip(self._running, shares, strict=True):
            if untaken:
                each.grown += within * share // untaken
            if requested:
                each.grown += (growth - within) * each.bytes // requested

    def _fall(self, fall: int, now: float) -> None:
        # First of all what has ended: that falls is no sign that running work has freed anything.
        fall -= _absorbed(self._falls, fall, now)
        grown = sum(each.grown for each in self._running)
        if fall <= 0 or not grown:
            return
        kept = max(0, grown - fall)
        for each in self._running:
            each.grown = each.grown * kept // grown

    def _counted(self) -> tuple[int, int]:
        totals = self._totals
        if totals is None:
            left = sum(each.left for each in self._running)
            totals = self._totals = (left, sum(each.bytes for each in self._running))
        return totals


def _absorbed(falls: deque[list[float]], fall: int, now: float) -> int:
    """Return how much of *fall* was expected, and expect that much less."""
    absorbed = 0
    while falls and absorbed < fall:
        if falls[0][0] <= now:
            falls.popleft()
            continue
        part = min(int(falls[0][1]), fall - absorbed)
        falls[0][1] -= part
        absorbed += part
        if falls[0][1] <= 0:
            falls.popleft()
    return absorbed
