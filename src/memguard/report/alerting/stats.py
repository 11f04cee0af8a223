"""What alerts know of themselves: frozen, strings and numbers only."""

from __future__ import annotations

from dataclasses import dataclass

from memguard.report.alerting.lane import SinkStatistics
from memguard.report.alerting.notice import Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAlert:
    """An alert that is pending or fires."""

    fingerprint: str
    rule: str
    severity: Severity
    summary: str
    firing: bool
    """False while it has not lasted long enough."""
    started_at: float
    """When its condition began, seconds since the epoch."""
    told: int
    """Messages about it so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsStatistics:
    """What was looked at, told and lost. Counts and seconds."""

    name: str
    running: bool
    evaluations: int
    pending: int
    firing: int
    left_out: int
    """Signs beyond the 500 alerts that are followed."""
    notices: int
    """Messages made; each goes to every sink that wants it."""
    suppressed: int
    """Messages held back for the rate; some were told later."""
    sent: int
    """This and the next four: all sinks together."""
    retried: int
    failed: int
    dropped: int
    queued: int
    sinks: tuple[SinkStatistics, ...]
    cpu_seconds: float
    """Processor time of all evaluations."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]
