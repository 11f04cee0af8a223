"""
What running work may still take of the memory that it requested. Pure: no clock, no I/O, no lock.

Nobody can see which work allocates. What is seen is by how much the process grows: while work runs
that is taken for the work's, each piece of work a share, up to what it requested. Not for its own
is taken what other processes take, what containers of memguard take (see `Own`), and growth beyond
all that was requested: there others are at work, who may have taken the rest as well, so it speaks
against the work by as much again. What is not the work's own stays reserved and is counted as used.
"""

from __future__ import annotations

from collections import deque

from memguard.relief.room import COUNTED, Counted

_FALL_SECONDS = 2.0
"""How long memory of ended work is expected to be freed: its objects outlive it a little."""
_MOST_FALLS = 1000

Own = tuple[int | None, int | None, int | None]
"""
What this process has, in the order of `COUNTED`, without what its containers hold. Bytes.

None where it is not known. That a cache fills, or is emptied, is not seen in these.
"""


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
        self.grown = [0, 0, 0]
        """Its share of the growth since it was admitted, in the order of `COUNTED`."""

    def taken(self, measure: int) -> int:
        """Return how much of the request counts as taken."""
        grown = self.grown[measure]
        return grown if grown <= self.bytes else max(0, 2 * self.bytes - grown)

    def left(self, measure: int) -> int:
        """Return how much of the request may still be taken."""
        return self.bytes - self.taken(measure)


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
        self._own: Own | None = None
        self._falls: tuple[deque[list[float]], ...] = tuple(
            deque(maxlen=_MOST_FALLS) for _ in COUNTED
        )
        self._totals: list[int] | None = [0, 0, 0, 0]

    def __len__(self) -> int:
        """Return the pieces of work that are running."""
        return len(self._running)

    @property
    def promised(self) -> int:
        """Bytes that running work has requested."""
        return self._counted()[3]

    def left(self) -> dict[Counted, int]:
        """Return what running work may still take, by what bounds count."""
        totals = self._counted()
        return {counts: totals[measure] for measure, counts in enumerate(COUNTED)}

    def add(self, reserve: Reserve) -> None:
        """Reserve from now on."""
        totals, self._totals = self._counted(), None
        self._running[reserve] = None
        self._totals = [total + reserve.bytes for total in totals]

    def remove(self, reserve: Reserve, now: float) -> bool:
        """End the work; return False if it did not run. Its memory is expected to be freed soon."""
        if reserve not in self._running:
            return False
        totals, self._totals = self._counted(), None
        del self._running[reserve]
        for measure, falls in enumerate(self._falls):
            taken = reserve.taken(measure)
            totals[measure] -= reserve.bytes - taken
            if taken:
                falls.append([now + _FALL_SECONDS, taken])
        totals[3] -= reserve.bytes
        self._totals = totals
        return True

    def renew(self, own: Own, now: float) -> None:
        """Take note of what this process has now."""
        before, self._own = self._own, own
        if before is None or before == own:
            return
        self._totals = None
        for measure in range(len(COUNTED)):
            then, size = before[measure], own[measure]
            if then is None or size is None or then == size:
                continue
            if size > then:
                self._grow(measure, size - then)
            else:
                self._fall(measure, then - size, now)

    def _grow(self, measure: int, growth: int) -> None:
        # To each by what it has not taken yet; then to each by what it requested.
        shares = [max(0, each.bytes - each.grown[measure]) for each in self._running]
        untaken = sum(shares)
        within = min(growth, untaken)
        requested = sum(each.bytes for each in self._running)
        for each, share in zip(self._running, shares, strict=True):
            if untaken:
                each.grown[measure] += within * share // untaken
            if requested:
                each.grown[measure] += (growth - within) * each.bytes // requested

    def _fall(self, measure: int, fall: int, now: float) -> None:
        # First of all what has ended: that falls is no sign that running work has freed anything.
        fall -= _absorbed(self._falls[measure], fall, now)
        grown = sum(each.grown[measure] for each in self._running)
        if fall <= 0 or not grown:
            return
        kept = max(0, grown - fall)
        for each in self._running:
            each.grown[measure] = each.grown[measure] * kept // grown

    def _counted(self) -> list[int]:
        totals = self._totals
        if totals is None:
            totals = self._totals = [
                *(sum(each.left(measure) for each in self._running) for measure in range(3)),
                sum(each.bytes for each in self._running),
            ]
        return list(totals)


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
