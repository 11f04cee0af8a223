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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from memguard import log
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.finding.compose import Origin, compose
from memguard.leaks.finding.fingerprint import fingerprint
from memguard.leaks.finding.life import grown_on, is_clear
from memguard.leaks.finding.rank import is_light
from memguard.leaks.growth.trend import Trend
from memguard.leaks.report import CurvePoint, FindingState, LeakReport, ReportKind, TrendSummary
from memguard.observe.headroom import Allowance
from memguard.units import format_bytes

WEIGHTY = 0.1
"""Share of the growth at which a holder without a line is worth another burst of tracing."""


Change = Literal["new", "updated", "resumed", "ended", "retracted"]
"""What became of a finding: ``resumed`` is growth that had ended, or was not watched meanwhile."""


_EVENTS: dict[tuple[ReportKind, Change], str] = {
    ("leak", "new"): "leak.suspected",
    ("leak", "updated"): "leak.updated",
    ("leak", "resumed"): "leak.resumed",
    ("leak", "ended"): "leak.ended",
    ("leak", "retracted"): "leak.retracted",
    ("growth", "new"): "growth.observed",
    ("growth", "updated"): "growth.observed",
    ("growth", "resumed"): "growth.observed",
    ("growth", "ended"): "growth.ended",
    ("growth", "retracted"): "growth.retracted",
    ("snapshot", "new"): "memory.looked_at",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A report, and what is new about it."""

    report: LeakReport
    change: Change

    @property
    def is_alarm(self) -> bool:
        """True for a new leak; False for growth that is none, or not yet, and for all else."""
        return self.change == "new" and self.report.kind == "leak"

    @property
    def is_over(self) -> bool:
        """True for the end of a leak that was an alarm."""
        return self.change in ("ended", "retracted") and self.report.kind == "leak"

    def log(self, paths: Sequence[Path]) -> None:
        """Log one structured event: ``leak.suspected``, or what else became of it."""
        report = self.report
        place = report.place
        holder = report.holders[0] if report.holders else None
        is_loud = report.kind == "leak" and self.change != "updated"
        log.event(
            logging.WARNING if is_loud else logging.INFO,
            _EVENTS[report.kind, self.change],
            what=report.headline,
            id=report.id,
            revision=report.revision,
            state=report.state,
            fingerprint=report.fingerprint,
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
    fields = {**asdict(trend), "kind": trend.kind.value}
    del fields["rising_seconds"]
    return TrendSummary(
        **fields,
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
    def going_on(self) -> LeakReport | None:
        """The leak or the suspicion that may go on; None when there is none."""
        return self._open

    @property
    def suspicion(self) -> str | None:
        """What is suspected now, in a line; None where nothing is."""
        report = self._open
        if report is None or report.state != "suspected":
            return None
        grown = format_bytes(report.trend.growth_bytes, signed=True)
        return f"{report.headline}; {grown} so far"

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

    def close(self) -> LeakReport | None:
        """
        Return what was going on, with the time from which nobody watches it; None without any.

        Its state stays as it was then, until it is seen to grow again.
        """
        previous, self._open = self._open, None
        if previous is None:
            return None
        report = replace(previous, watched_until=_now())
        self._replace(previous, report)
        return report

    def conclude(
        self,
        trend: TrendSummary,
        evidence: Evidence,
        *,
        uptime_seconds: float,
        cpu_seconds: float,
        state: FindingState = "leaking",
        state_if_clear: FindingState | None = None,
    ) -> Finding | None:
        """
        Return the finding: new, or the update of the one that is going on.

        Args:
            trend: What the readings did.
            evidence: What the investigation gathered.
            uptime_seconds: Since the detector's start.
            cpu_seconds: Processor time of it all.
            state: What growth is that the evidence calls a leak.
            state_if_clear: What it is where nothing bounds what is seen to grow; None for *state*.

        Returns:
            None where one look speaks against a leak that others confirmed: if it has ended, its
            level will show it.
        """
        previous = self._open
        report = compose(
            self._origin(previous, uptime_seconds),
            trend,
            evidence,
            cpu_seconds=cpu_seconds,
            previous=previous,
            had_stopped=self._had_stopped,
        )
        is_leak = report.kind == "leak"
        if is_leak and report.verdict.kind == "cycles" and not evidence.collector.is_soon:
            state = "leaking"  # nothing will end it
        elif state_if_clear is not None and is_clear(report):
            state = state_if_clear
        self._had_stopped = not is_leak and not report.holders
        was_leaking = previous is not None and previous.state == "leaking"
        if not is_leak and was_leaking and not report.holders:
            return None
        if is_leak:
            report = replace(
                report,
                kind="leak" if was_leaking or state == "leaking" else "growth",
                state="leaking" if was_leaking else state,
                fingerprint=_fingerprint(report, evidence, previous),
            )
            return self._keep_on(report, previous)
        if previous is not None:
            return self._end(replace(report, kind=previous.kind), "retracted", previous)
        self._append(report)
        return Finding(report, "new")

    def _keep_on(self, report: LeakReport, previous: LeakReport | None) -> Finding:
        """Keep what goes on: new, an update, or the same as one that had ended."""
        change: Change = "updated"
        if previous is None:
            previous = self._find_earlier(report.fingerprint)
            change = "new" if previous is None else "resumed"
            if previous is not None:
                report = _continued(report, previous)
        if report.state == "leaking" and (previous is None or previous.kind != "leak"):
            change = "new"  # also of what was suspected until now
            self.count += 1
        if previous is None:
            self._append(report)
        else:
            self._replace(previous, report)
        self._open = report
        return Finding(report, change)

    def _find_earlier(self, mark: str) -> LeakReport | None:
        """
        Return the last report of that fingerprint which had ended, or which nobody watched since.

        Not one that was retracted, nor one of the process that this one was forked from.
        """
        pid = os.getpid()
        return next(
            (
                report
                for report in reversed(self._reports)
                if mark and report.fingerprint == mark and report.pid == pid
                if report.state in ("suspected", "leaking", "ended")
            ),
            None,
        )

    def go_on(
        self, trend: TrendSummary, seen: Sequence[HolderEvidence], *, seconds: float
    ) -> Finding | None:
        """
        Return what was suspected as a leak, where its holders were *seen* to grow on.

        Args:
            trend: Of the readings up to now.
            seen: Its holders, now.
            seconds: From the look before to the one that has seen them.
        """
        previous = self._open
        if previous is None:
            return None
        report = replace(
            self._updated(previous, trend, seen),
            kind="leak",
            state="leaking",
            window_seconds=previous.window_seconds + seconds,
        )
        self.count += 1
        self._replace(previous, report)
        self._open = report
        return Finding(report, "new")

    def _updated(
        self, previous: LeakReport, trend: TrendSummary, seen: Sequence[HolderEvidence]
    ) -> LeakReport:
        origin = self._origin(previous, previous.uptime_seconds)
        return replace(
            previous,
            revision=origin.revision,
            updated_at=origin.updated_at,
            trend=replace(previous.trend, current_bytes=trend.current_bytes, curve=trend.curve),
            holders=grown_on(previous.holders, seen),
        )

    def end(
        self,
        trend: TrendSummary,
        state: Literal["ended", "retracted"],
        *,
        seen: Sequence[HolderEvidence] = (),
    ) -> Finding | None:
        """
        Return the last revision of what was going on, in *state*; None where nothing was.

        Args:
            trend: Of the readings up to now.
            state: ``ended`` or ``retracted``.
            seen: What of its holders was seen since.
        """
        previous = self._open
        if previous is None:
            return None
        report = self._updated(previous, trend, seen)
        shown = replace(report.trend, seconds_to_limit=None)
        return self._end(replace(report, trend=shown), state, previous)

    def _end(self, report: LeakReport, state: FindingState, previous: LeakReport) -> Finding:
        report = replace(
            report,
            state=state,
            ended_at=report.updated_at,
            fingerprint=previous.fingerprint or report.fingerprint,
        )
        self._replace(previous, report)
        self._open = None
        return Finding(report, "ended" if state == "ended" else "retracted")

    def _append(self, report: LeakReport) -> None:
        if len(self._reports) == self._reports.maxlen:
            self.dropped += 1
        self._reports.append(report)

    def _replace(self, previous: LeakReport, report: LeakReport) -> None:
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
        now = _now()
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _continued(report: LeakReport, earlier: LeakReport) -> LeakReport:
    """Return *report* as the next revision of an *earlier* one: a leak is one again."""
    return replace(
        report,
        id=earlier.id,
        kind="leak" if earlier.kind == "leak" else report.kind,
        state="leaking" if earlier.kind == "leak" else report.state,
        started_at=earlier.started_at,
        revision=earlier.revision + 1,
        uptime_seconds=earlier.uptime_seconds,
    )


def _fingerprint(report: LeakReport, evidence: Evidence, previous: LeakReport | None) -> str:
    """Return the fingerprint: that of a leak stays, whatever an update sees."""
    known = previous.fingerprint if previous is not None else ""
    if previous is not None and (previous.state == "leaking" or (known and evidence.trace is None)):
        return known
    return fingerprint(report, evidence) or known
