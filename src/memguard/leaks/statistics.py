"""What a detector did and what it cost, and the failures it survived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    suspicion: str | None = None
    """Growth that may be a leak and may end, in a line; None where there is none, or a leak."""
    reports_dropped: int
    """Reports that left ``reports`` for its bound."""
    report_dir: str | None
    report_error: str | None = None
    """Why no report can be written there now; None after one that was."""
