"""Rules that measure over a window of time: growth, and the collector's share. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from memguard.errors import ConfigError
from memguard.leaks.growth.series import Point
from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions, classify
from memguard.report.alerting.notice import Severity
from memguard.report.alerting.rule import Look, Rule, Sign, checked_number
from memguard.report.figures import Figures
from memguard.units import format_bytes, format_seconds, parse_bytes, parse_seconds

_STRETCHES = 40
"""A window is so many troughs: the median of their slopes takes half a millisecond."""
_LEAST_TROUGHS = _STRETCHES // 4
_CERTAIN = 0.99


class GrowthAbove(Rule):
    """
    Private memory grows by more than *bytes_per_hour*, seen over *window*.

    The rate is Sen's slope of the troughs (the lowest value of each fortieth of the window). It
    counts only while the troughs go on rising, with 99 % certainty: garbage that comes and goes,
    one large step, or a cache that fills up is not growth. Nothing is said before half of the
    window has passed.

    Bounded by: 40 points.
    Locks: none.
    Keeps alive: nothing.

    Args:
        bytes_per_hour: Bytes, or a string such as ``"64MiB"``.
        window: Seconds looked at, a minute to a week.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.

    Sources: see `memguard.leaks.growth.trend`.
    """

    def __init__(
        self,
        bytes_per_hour: int | str = "64MiB",
        *,
        window: float | str = "2h",
        name: str = "memory_growth",
        severity: Severity = "warning",
        lasting: float | str = 0.0,
        calm: float | str = "10m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)
        self.bytes_per_hour = parse_bytes(bytes_per_hour, name="bytes_per_hour")
        if self.bytes_per_hour == 0:
            raise ConfigError("bytes_per_hour must be > 0 (got 0)")
        self.window = _checked_window(window)

    @property
    def longest_interval(self) -> float:
        """A tenth of the window: fewer points show no trend."""
        return self.window / _LEAST_TROUGHS

    def probe(self) -> Look:
        """Return a way to look, which remembers the troughs of one window."""
        return _Growth(self).look


class _Growth:
    """The troughs of the last window and what they say."""

    def __init__(self, rule: GrowthAbove) -> None:
        self._rule = rule
        self._stretch = rule.window / _STRETCHES
        self._troughs: deque[Point] = deque(maxlen=_STRETCHES)
        self._began: float | None = None
        self._trough: Point | None = None
        self._trend: Trend | None = None

    def look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        reading = figures.reading
        if reading.private is not None:
            # tracemalloc's own memory is none of the host's growth.
            self._add(now, reading.private - (reading.tracer or 0))
        trend = self._trend
        if trend is None:
            return [Sign(active=None, summary="growth cannot be told yet")]
        # A little slower than what set it off is not over.
        rate = trend.bytes_per_hour
        active = rate > self._rule.bytes_per_hour * (0.8 if firing else 1.0)
        span = format_seconds(trend.span_seconds)
        facts = [("now", format_bytes(trend.current_bytes))]
        facts.append(("certainty", f"{trend.confidence:.1%}"))
        return [
            Sign(
                active=active and trend.kind is TrendKind.LEAK,
                summary=f"private memory: {format_bytes(rate, signed=True)}/h over {span}",
                value=rate,
                unit="bytes/hour",
                facts=tuple(facts),
            )
        ]

    def _add(self, now: float, value: int) -> None:
        if self._began is None or self._trough is None:
            self._began, self._trough = now, Point(now, value)
            return
        if now - self._began < self._stretch:
            if value < self._trough.value:
                self._trough = Point(now, value)
            return
        self._troughs.append(self._trough)
        self._began, self._trough = now, Point(now, value)
        while self._troughs[0].at < now - self._rule.window * 1.1:
            self._troughs.popleft()  # of before a pause
            if not self._troughs:
                self._trend = None
                return
        span = self._troughs[-1].at - self._troughs[0].at
        if len(self._troughs) >= _LEAST_TROUGHS and span >= self._rule.window * 0.45:
            # Half of what it would be at the least rate that counts: troughs are ragged.
            least = self._rule.bytes_per_hour * span / 3600 / 2
            options = TrendOptions(min_growth_bytes=max(1, int(least)), confidence=_CERTAIN)
            self._trend = classify(list(self._troughs), options)
        else:
            self._trend = None


class GcShareAbove(Rule):
    """
    The garbage collector's pauses take more than *share* of the time, seen over *window*.

    Bounded by: 41 points.
    Locks: none.
    Keeps alive: nothing.

    Args:
        share: Part of the wall time, 0 to 1.
        window: Seconds looked at, a minute to a week.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.
    """

    def __init__(
        self,
        share: float = 0.10,
        *,
        window: float | str = "5m",
        name: str = "gc_share",
        severity: Severity = "warning",
        lasting: float | str = "5m",
        calm: float | str = "5m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)
        self.share = checked_number(share, name="share", least=0.001, most=1.0)
        self.window = _checked_window(window)

    @property
    def longest_interval(self) -> float:
        """Half of the window: with less there is nothing to compare."""
        return self.window / 2

    def probe(self) -> Look:
        """Return a way to look, which remembers the pauses of one window."""
        return _GcShare(self).look


class _GcShare:
    """How long was watched and how long was paused, at points of the last window."""

    def __init__(self, rule: GcShareAbove) -> None:
        self._rule = rule
        self._points: deque[tuple[float, float]] = deque(maxlen=_STRETCHES + 1)

    def look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        del now  # the watch has a time of its own, which stands still while it is stopped
        unknown = [Sign(active=None, summary="the collector's share cannot be told yet")]
        if figures.gc is None:
            return unknown
        watched, paused = figures.gc.watched_seconds, figures.gc.pause_total
        points = self._points
        if points and (watched < points[-1][0] or paused < points[-1][1]):
            points.clear()  # the watch began anew
        if not points or watched - points[-1][0] >= self._rule.window / _STRETCHES:
            points.append((watched, paused))
        while points[0][0] < watched - self._rule.window and len(points) > 1:
            points.popleft()
        span = watched - points[0][0]
        if span < self._rule.window / 2:
            return unknown
        share = (paused - points[0][1]) / span
        return [
            Sign(
                active=share > self._rule.share * (0.8 if firing else 1.0),
                summary=f"garbage collection took {share:.1%} of the last {format_seconds(span)}",
                value=share,
                unit="ratio",
                facts=(("longest pause", format_seconds(figures.gc.pause_max)),),
            )
        ]


def _checked_window(window: float | str) -> float:
    seconds = parse_seconds(window, name="window")
    if not 60 <= seconds <= 7 * 86400:
        raise ConfigError(f"window must be from a minute to 7 days (got {window!r})")
    return seconds
