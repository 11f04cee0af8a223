"""What a detector did and what it cost, and the failures it survived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memguard.leaks.finding.findings import Findings
from memguard.lifecycle.failures import Failures

State = Literal["idle", "watching", "tracing", "cooling"]


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
