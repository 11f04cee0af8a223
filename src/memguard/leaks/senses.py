"""How a detector sees, and what it has spent: what its searches share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memguard.observe.headroom import Allowance, read_allowance
from memguard.observe.readings import Reading


@dataclass(slots=True)
class Spent:
    """What a detector has done and what that took, searches that are over included. Seconds."""

    ticks: int = 0
    cpu_seconds: float = 0.0
    traced_seconds: float = 0.0
    investigations: int = 0


@dataclass(frozen=True, slots=True)
class Senses:
    """How a detector sees: its clock, its readings, and the bound that it was given."""

    timer: Callable[[], float]
    read: Callable[[], Reading]
    limit: int | None

    def allowance(self, reading: Reading) -> Allowance:
        """Return the bound that growth will meet first."""
        return read_allowance(reading, self.limit)
