"""The rule for leaks: one alert for each finding of the detector. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memguard.errors import ConfigError
from memguard.leaks.report import LeakReport
from memguard.report.alerting.notice import Severity
from memguard.report.alerting.rule import Look, Rule, Sign
from memguard.report.figures import Figures
from memguard.report.render import words
from memguard.units import format_bytes, format_seconds, parse_seconds


class LeakSuspected(Rule):
    """
    The detector found a leak, with the line that allocates and what holds it.

    It is over when the finding was not confirmed again for *quiet*, and the detector is watching.

    Bounded by: the reports that the detector keeps.
    Locks: none.
    Keeps alive: nothing.

    Args:
        quiet: Seconds without a further confirmation after which a leak is over.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        repeat: Seconds between two messages while it goes on.
    """

    def __init__(
        self,
        *,
        quiet: float | str = "1h",
        name: str = "leak_suspected",
        severity: Severity = "warning",
        repeat: float | str | None = "1d",
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=0.0, calm=0.0, repeat=repeat)
        self.quiet = parse_seconds(quiet, name="quiet")
        if self.quiet < 1:
            raise ConfigError(f"quiet must be >= 1 second (got {quiet!r})")

    def probe(self) -> Look:
        """Return a way to look, which remembers when each finding was last confirmed."""
        return _Confirmed(self).look


class _Confirmed:
    """The revision of each report and when it was first seen, by a clock that nobody sets."""

    def __init__(self, rule: LeakSuspected) -> None:
        self._rule = rule
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        leaks = {report.id: report for report in figures.reports if report.kind == "leak"}
        self._seen = {ident: seen for ident, seen in self._seen.items() if ident in leaks}
        # While it traces or rests it confirms nothing, whatever goes on.
        detector = figures.detector
        asleep = detector is None or detector.state != "watching"
        signs = []
        for ident, report in leaks.items():
            revision, at = self._seen.get(ident, (-1, now))
            if report.revision != revision:
                revision, at = report.revision, now
                self._seen[ident] = revision, at
            active: bool | None = now - at < self._rule.quiet
            if not active and asleep and ident in firing:
                active = None
            signs.append(_sign(report, active=active))
        return signs


def _sign(report: LeakReport, *, active: bool | None) -> Sign:
    trend = report.trend
    grown = format_bytes(trend.growth_bytes, signed=True)
    parts = [f"{grown} ({words.rate(trend.bytes_per_hour / 60)})"]
    facts = [("verdict", words.VERDICTS.get(report.verdict.kind, report.verdict.kind))]
    facts.append(("advice", report.verdict.advice))
    if report.holders:
        holder = report.holders[0]
        parts.append(f"held by {words.printable(holder.path, longest=100)}")
        facts.append(("holder", f"{holder.path} : {holder.type}, {holder.entries:,} entries"))
    if report.suspects:
        place = words.Places().shown(report.suspects[0])
        parts.append(f"allocated at {words.printable(place, longest=120)}")
        facts.append(("line", place))
    if trend.seconds_to_limit is not None:
        facts.append(("limit reached in", format_seconds(trend.seconds_to_limit)))
    facts.append(("report", report.id))
    times = "once" if report.revision == 1 else f"{report.revision} times"
    facts.append(("confirmed", f"{times}, last {report.updated_at}"))
    return Sign(
        key=report.id,
        active=active,
        summary="leak suspected: " + ", ".join(parts),
        value=trend.bytes_per_hour,
        unit="bytes/hour",
        facts=tuple(facts),
    )
