"""Which parts of a guard the environment has switched off, and why: counted, and logged once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from memguard import log

GUARD_PARTS = ("history", "leaks", "pressure", "publish", "reports")
"""What may be off by itself; also the label of metrics."""
MOST_REASONS = 50
"""Different reasons that are logged; further ones are only counted."""
_LONGEST = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """A part that does not do all of its work now, through no fault of its options."""

    part: str
    """One of ``GUARD_PARTS``."""
    reason: str
    """What is wrong, and what that means, for people."""


class Degradations:
    """
    Keep what is switched off now; a new reason is logged, and its end.

    Bounded by: one reason for each part, and ``MOST_REASONS`` that were logged.
    Locks: none; a lost count under a race is harmless. Handlers of the log run under none.
    Keeps alive: strings.
    """

    def __init__(self, guard: str) -> None:
        self._guard = guard
        self._now: dict[str, str] = {}
        self._logged: set[tuple[str, str]] = set()
        self._counts: Counter[str] = Counter()

    def set(self, part: str, reason: str | None) -> None:
        """Say why *part* is off; None says that it works."""
        before = self._now.get(part)
        if reason is None:
            if self._now.pop(part, None) is not None:
                log.event(log.INFO, "guard.recovered", guard=self._guard, part=part)
            return
        reason = reason[:_LONGEST]
        self._now[part] = reason
        if before is None:
            self._counts[part] += 1
        if (part, reason) not in self._logged and len(self._logged) < MOST_REASONS:
            self._logged.add((part, reason))
            log.event(log.WARNING, "guard.degraded", guard=self._guard, part=part, reason=reason)

    @property
    def now(self) -> tuple[Degraded, ...]:
        """The parts that are off, by name."""
        found = sorted(self._now.copy().items())
        return tuple(Degraded(part=part, reason=reason) for part, reason in found)

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """(part, times that it was switched off), by name."""
        return tuple(sorted(self._counts.copy().items()))


def described(error: BaseException) -> str:
    """Return *error*, which code of ours or of the standard library raised, in words."""
    return f"{type(error).__name__}: {error}"[:_LONGEST]
