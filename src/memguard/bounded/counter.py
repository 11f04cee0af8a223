"""A counter that many threads bump without a lock and without losing a count."""

from __future__ import annotations

from itertools import count


class Tally:
    """
    Counts calls of `bump`, exactly, with or without the GIL.

    ``itertools.count`` advances in one C call that is atomic; ``x += 1`` on an attribute is not.
    Reading advances the counter as well, so reads are subtracted; readers must not overlap.
    """

    __slots__ = ("_reads", "bump")

    def __init__(self) -> None:
        self.bump = count().__next__
        self._reads = 0

    def read(self) -> int:
        """Return how often `bump` was called. Call it under a lock of the owner."""
        total = self.bump() - self._reads
        self._reads += 1
        return total
