"""What a detector did and what it cost, and the failures it survived."""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from memguard import log
from memguard.leaks.finding.findings import Findings

State = Literal["idle", "watching", "tracing", "cooling"]
MAX_KINDS = 50
"""Kinds of failures told apart; further ones are counted together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakDetectorStatistics:
    """What a detector did and what it cost. Seconds and counts."""

    name: str
    state: State
    ticks: int
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
    cpu_seconds: float
    """Processor time of all ticks and checks, in their threads."""
    traced_seconds: float
    """Time that tracing of ours was on."""
    uptime_seconds: float
    investigations: int
    findings: int
    """Leaks reported, updates not counted."""
    reports_dropped: int
    """Reports that left ``reports`` for its bound."""
    report_dir: str | None


@dataclass(slots=True)
class Account:
    """What a detector has done and spent, as it goes along."""

    ticks: int = 0
    cpu_seconds: float = 0.0
    traced_seconds: float = 0.0
    investigations: int = 0

    def statistics(
        self,
        name: str,
        state: State,
        *,
        failures: Failures,
        findings: Findings,
        tracing_now: float,
        uptime_seconds: float,
        report_dir: str | None,
    ) -> LeakDetectorStatistics:
        """Return the account as others may see it."""
        return LeakDetectorStatistics(
            name=name,
            state=state,
            ticks=self.ticks,
            errors=failures.count,
            errors_by_kind=failures.kinds,
            cpu_seconds=self.cpu_seconds,
            traced_seconds=self.traced_seconds + tracing_now,
            uptime_seconds=uptime_seconds,
            investigations=self.investigations,
            findings=findings.count,
            reports_dropped=findings.dropped,
            report_dir=report_dir,
        )


class Failures:
    """
    Count what went wrong, and log each kind once.

    Bounded by: ``MAX_KINDS`` kinds.
    Locks: none; a lost count under a race is harmless.
    Keeps alive: strings; never an exception, whose traceback holds frames.
    """

    def __init__(self, detector: str) -> None:
        self._detector = detector
        self._kinds: Counter[str] = Counter()
        self._unsaid: deque[tuple[str, str, str]] = deque()

    def add(self, what: str, error: BaseException) -> None:
        """Count that *what* failed with *error*. Logs nothing yet: a lock may be held."""
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            kind = "others"
        self._kinds[kind] += 1
        if self._kinds[kind] == 1:
            self._unsaid.append((what, type(error).__name__, _place(error)))

    def announce(self) -> None:
        """Log the kinds that are new: to be called under no lock."""
        while self._unsaid:
            what, error, place = self._unsaid.popleft()
            log.event(
                logging.WARNING,
                "detector.failed",
                detector=self._detector,
                what=what,
                error=error,
                place=place,
            )

    @property
    def count(self) -> int:
        """All failures so far."""
        return sum(self._kinds.values())

    @property
    def kinds(self) -> tuple[tuple[str, int], ...]:
        """(kind, count), by name."""
        return tuple(sorted(self._kinds.items()))


def _place(error: BaseException) -> str:
    """Return where *error* was raised; its text is not asked for, since that may run user code."""
    traceback = error.__traceback__
    if traceback is None:
        return "?"
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}"
