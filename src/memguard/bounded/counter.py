"""A counter that many threads increment without losing a count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from memguard.lifecycle import locks


class Tally:
    """
    Counts calls of `bump`, exactly, with or without the GIL.

    If there is a GIL, ``itertools.count`` advances in one atomic C call; ``x += 1`` on an
    attribute is not atomic. Without a GIL CPython 3.13 loses steps of it, so a lock is held there.
    Reading advances the counter as well, so reads are subtracted; readers must not overlap.
    """

    __slots__ = ("_reads", "bump")

    def __init__(self) -> None:
        step = count().__next__
        self.bump: Callable[[], int] = _locked(step) if locks.FREE_THREADED else step
        self._reads = 0

    def read(self) -> int:
        """Return how often `bump` was called. Call it under a lock of the owner."""
        total = self.bump() - self._reads
        self._reads += 1
        return total


def _locked(step: Callable[[], int]) -> Callable[[], int]:
    lock = locks.RLock()  # re-entrant: a weak reference callback may interrupt and count as well

    def bump() -> int:
        with lock:
            return step()

    return bump
