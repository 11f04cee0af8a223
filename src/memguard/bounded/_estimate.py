"""What an entry takes where a cache does not count bytes: measured of a few, kept for a while."""

from __future__ import annotations

from typing import NamedTuple

from memguard.bounded import inventory

SAMPLE = 8
"""Entries measured at each end of a cache."""

TRUSTED_SECONDS = 60.0
"""How long a measured average counts while few entries change: values may grow in place."""


class Measured(NamedTuple):
    """An average, and what the cache was like when it was made."""

    average: float
    """Bytes of an entry."""
    changes: int
    """Changes of the cache until then."""
    entries: int
    """Its entries."""
    at: float
    """When that was, in seconds of the monotonic clock."""

    def will_do(self, changes: int, count: int, now: float) -> bool:
        """
        Return whether it is told once more though it holds no longer, because others come first.

        So it is in a look at all containers that measures only some of them; see
        `memguard.bounded.inventory.survey`.
        """
        # A few entries, or none, say nothing of the many that have come since.
        is_telling = self.entries >= 2 * SAMPLE or 0 < count <= 2 * self.entries
        if not is_telling:
            return False
        age = now - self.at
        return inventory.measures_later(age * (1 + abs(changes - self.changes) / max(1, count)))
