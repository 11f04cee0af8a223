"""The findings of a detector: numbered, bounded, and updated instead of announced twice."""

from __future__ import annotations

import copy  # noqa: F401 - reason: from CPython 3.15 on asdict imports it at its first call, here by the thread of a detector
import logging
import os
import platform
import sys
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from memguard import log
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding.compose import Origin, compose
from memguard.leaks.finding.rank import is_light
from memguard.leaks.growth.trend import Trend
from memguard.leaks.report import CurvePoint, LeakReport, TrendSummary
from memguard.observe.headroom import Allowance

WEIGHTY = 0.1
"""Share of the growth at which a holder without a line is worth another burst of tracing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A report and whether it is news."""

    report: LeakReport
    is_alarm: bool
    """True for a new leak; False for an update, and for growth that is none."""

    def log(self, paths: Sequence[Path]) -> None:
        """Log one structured event: ``leak.suspected``, or what else the report is."""
        report = self.report
        place = report.place
        holder = report.holders[0] if report.holders else None
        event = {
            "leak": "leak.updated",
            "growth": "growth.observed",
            "snapshot": "memory.looked_at",
        }
        log.event(
            logging.WARNING if self.is_alarm else logging.INFO,
            "leak.suspected" if self.is_alarm else event[report.kind],
            what=report.headline,
            id=report.id,
            revision=report.revision,
            detector=report.detector,
            verdict=report.verdict.kind,
            growth_bytes=report.trend.growth_bytes,
            bytes_per_hour=round(report.trend.bytes_per_hour),
            seconds_to_limit=report.trend.seconds_to_limit,
            suspect=f"{place.file}:{place.line} {place.function}" if place else None,
            holder=holder.path if holder else None,
            report=str(paths[0]) if paths else None,
        )


def summarize(
    trend: Trend, allowance: Allowance, curve: tuple[CurvePoint, ...] = ()
) -> TrendSummary:
    """Return *trend* as a report has it, with the time to the limit."""
    return TrendSummary(
        **{**asdict(trend), "kind": trend.kind.value},
        limit_bytes=allowance.limit,
        limit_source=allowance.source,
        seconds_to_limit=allowance.seconds_left(trend.bytes_per_hour),
        curve=curve,
    )


class Findings:
    """
    The latest findings, and the one that is still going on.

    Bounded by: *maxsize* reports.
    Locks: none; the detector's mutex is held around every change. Reading ``reports`` is safe.
    Keeps alive: reports: strings and numbers.
    """

    def __init__(self, detector: str, maxsize: int) -> None:
        self._detector = detector
        self._reports: deque[LeakReport] = deque(maxlen=maxsize)
        self._open: LeakReport | None = None
        self.count = 0
        self.dropped = 0
        self._had_stopped = False

    @property
    def reports(self) -> tuple[LeakReport, ...]:
        """Oldest first, each as of its last update."""
        return tuple(self._reports)

    @property
    def open_since(self) -> str | None:
        """When the leak that is still going on was first reported; None when there is none."""
        return self._open.started_at if self._open else None

    @property
    def wants_tracing(self) -> bool:
        """True unless the leak going on is known, with a line for each weighty holder."""
        if self._open is None:
            return True
        heavy = [holder for holder in self._open.holders if not is_light(holder, self._open.trend)]
        if not heavy:
            return self._open.verdict.kind == "live_objects"
        rates = [holder.bytes_per_minute or 0.0 for holder in heavy]
        return any(
            holder.site is None and rate >= WEIGHTY * sum(rates)
            for holder, rate in zip(heavy, rates, strict=True)
        )

    def close(self) -> None:
        """The leak that was going on has ended; further growth is a new finding."""
        self._open = None

    def conclude(
        self,
        trend: TrendSummary,
        evidence: Evidence,
        *,
        uptime_seconds: float,
        cpu_seconds: float,
    ) -> Finding:
        """Return the finding: new, or the update of the one that is going on."""
        previous = self._open
        report = compose(
            self._origin(previous, uptime_seconds),
            trend,
            evidence,
            cpu_seconds=cpu_seconds,
            previous=previous,
            had_stopped=self._had_stopped,
        )
        self._had_stopped = report.kind == "growth" and not report.holders
        if previous is not None:
            self._replace(previous, report)
            return Finding(report, is_alarm=False)
        if len(self._reports) == self._reports.maxlen:
            self.dropped += 1
        self._reports.append(report)
        if report.kind != "leak":
            return Finding(report, is_alarm=False)
        self._open = report
        self.count += 1
        return Finding(report, is_alarm=True)

    def _replace(self, previous: LeakReport, report: LeakReport) -> None:
        self._open = report if report.kind == "leak" else None
        kept = [report if known.id == previous.id else known for known in self._reports]
        self._reports = deque(kept, maxlen=self._reports.maxlen)

    def snapshot(
        self,
        trend: TrendSummary,
        evidence: Evidence,
        *,
        uptime_seconds: float,
        cpu_seconds: float,
    ) -> LeakReport:
        """Return a report on demand; it is not kept."""
        return compose(
            self._origin(None, uptime_seconds),
            trend,
            evidence,
            on_demand=True,
            cpu_seconds=cpu_seconds,
        )

    def _origin(self, previous: LeakReport | None, uptime_seconds: float) -> Origin:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Origin(
            id=previous.id if previous else uuid.uuid4().hex[:12],
            detector=self._detector,
            pid=os.getpid(),
            started_at=previous.started_at if previous else now,
            updated_at=now,
            revision=previous.revision + 1 if previous else 1,
            uptime_seconds=previous.uptime_seconds if previous else uptime_seconds,
            python=f"{platform.python_implementation()} {platform.python_version()} {sys.platform}",
        )
