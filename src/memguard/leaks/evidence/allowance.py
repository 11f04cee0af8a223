"""How much memory is left to this process, and who says so."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.observe.headroom import read_headroom
from memguard.observe.readings import Reading


@dataclass(frozen=True, slots=True)
class Allowance:
    """The bound that growth will meet first. Bytes; None where nothing is known."""

    limit: int | None = None
    source: str | None = None
    left: int | None = None
    """What is not yet used of it, whoever uses it."""

    def seconds_left(self, bytes_per_hour: float) -> float | None:
        """Return the seconds until the bound at this rate; None when it will not be met."""
        if self.left is None or bytes_per_hour <= 0:
            return None
        return self.left / bytes_per_hour * 3600


def read_allowance(reading: Reading, limit: int | None) -> Allowance:
    """
    Return the bound with the fewest bytes left. Never raises.

    Cost: about 0.3 ms on Linux; asked when there is a suspicion, not on every tick.

    Args:
        reading: This process, just read.
        limit: A bound given by the user, for private memory; None asks cgroups, rlimits, the host.
    """
    if limit is not None:
        used = reading.private or 0
        return Allowance(limit, "option limit", max(0, limit - used))
    nearest = min(read_headroom(reading).fills, key=lambda fill: fill.headroom, default=None)
    if nearest is None:
        return Allowance()
    return Allowance(nearest.bound.bytes, nearest.bound.source, nearest.headroom)
