"""Rules: which states of a guard raise an alert. Pure: no clock, and no I/O."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

from memguard.bounded.options import (
    check_callable,
    check_choice,
    check_identifier,
    check_instance,
    check_number,
    check_seconds,
)
from memguard.errors import ConfigError
from memguard.leaks.growth.series import Point
from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions, classify
from memguard.leaks.report import LeakReport
from memguard.relief.levels import SEVERITY as LEVELS
from memguard.report.alerting.notice import SEVERITIES, WHAT, Severity
from memguard.report.render import words
from memguard.report.state import GuardState
from memguard.units import format_bytes, format_seconds, parse_bytes, parse_seconds

_WEEK = 7 * 86400.0
_STRETCHES = 40
"""A window is so many troughs: the median of their slopes takes half a millisecond."""
_LEAST_TROUGHS = _STRETCHES // 4
_CERTAIN = 0.99
_STILL = 0.8
"""An alert fires until the measured value is below this share of the threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a rule sees of one thing that it watches."""

    active: bool | None
    """None if unknown: what fires keeps firing, what is pending starts again."""
    summary: str
    """One line, for people: what, how much, where."""
    key: str = ""
    """Which of several things of one rule it is: the id of a leak."""
    value: float | None = None
    unit: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    severity: Severity | None = None
    """Where it is graver than the rule says."""


Keys = Collection[str]
Conditions = Sequence[Condition]
Evaluator = Callable[[GuardState, float, Keys], Conditions]
"""``evaluate(state, now, firing)``: *now* in monotonic seconds, *firing* the keys that fire."""


class RuleOptions(TypedDict, total=False):
    """The options of every rule, but for its name; see `Rule`."""

    severity: Severity
    fire_after: float | str
    resolve_after: float | str
    repeat: float | str | None


class NamedRuleOptions(RuleOptions, total=False):
    """The options of a rule whose name may be left out; see `Rule`."""

    name: str


class Rule(ABC):
    """
    When to alert whom to what. Pure: it is given the state of the guard and the time.

    Bounded by: its options; what it remembers is in what `evaluator` returns.
    Locks: none.
    Keeps alive: nothing of the host's, but for the function of a `When`.

    Args:
        name: Unique among the rules of an `Alerts`: letters, digits, ``_``, ``.``, ``-``.
        severity: ``"info"``, ``"warning"`` or ``"critical"``.
        fire_after: Seconds that its condition must hold before it fires.
        resolve_after: Seconds that its condition must not hold before it is resolved.
        repeat: Seconds between two notices while it fires; None takes that of the `Alerts`.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        name: str,
        severity: Severity = "warning",
        fire_after: float | str = 0.0,
        resolve_after: float | str = 60.0,
        repeat: float | str | None = None,
    ) -> None:
        self.name = check_identifier(name, "name", longest=60)
        self.severity: Severity = check_choice(severity, SEVERITIES, "severity")
        self.fire_after = parse_seconds(fire_after, name="fire_after")
        self.resolve_after = parse_seconds(resolve_after, name="resolve_after")
        self.repeat = None if repeat is None else check_seconds(repeat, "repeat", 1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, severity={self.severity!r})"

    @property
    def longest_interval(self) -> float:
        """Seconds between two evaluations with which it can say anything at all."""
        return math.inf

    @abstractmethod
    def evaluator(self) -> Evaluator:
        """Return a function that evaluates this rule, with a memory of its own."""


class UsedAbove(Rule):
    """
    Memory that cannot be reclaimed is above *ratio* of the limit.

    Args:
        ratio: Used over limit, 0 to 1.
        clear: It is resolved below this; by default 0.05 less.
        options: See `Rule`; by default critical, ``fire_after="5m"``, ``resolve_after="1m"``.
    """

    def __init__(
        self,
        ratio: float = 0.85,
        *,
        clear: float | None = None,
        **options: Unpack[NamedRuleOptions],
    ) -> None:
        defaults = NamedRuleOptions(
            name="memory_used", severity="critical", fire_after="5m", resolve_after="1m"
        )
        super().__init__(**(defaults | options))
        self.ratio = check_number(ratio, "ratio", 0.01, 1)
        lower = max(0.0, round(self.ratio - 0.05, 6)) if clear is None else clear
        self.clear = check_number(lower, "clear", 0, self.ratio)

    def evaluator(self) -> Evaluator:
        """Return a function that remembers nothing."""
        return self._evaluate

    def _evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        del now
        pressure = state.pressure
        ratio = pressure.used_ratio if state.running else None  # else it is of an hour ago
        if ratio is None:
            return [Condition(active=None, summary="how much is used is not known")]
        active = ratio > self.clear if firing else ratio > self.ratio
        text = f"{ratio:.1%} of {format_bytes(pressure.limit or 0)} used ({pressure.source})"
        held = ""
        if ratio > self.ratio:
            held = f", above {self.ratio:.0%}"
            if self.fire_after:
                held += f" for {format_seconds(self.fire_after)}"
        elif active:
            held = f", not yet down to {self.clear:.0%}"
        facts = [("used", format_bytes(pressure.used or 0)), ("level", pressure.level)]
        if pressure.private is not None:
            facts.append(("of this process", format_bytes(pressure.private)))
        if pressure.bytes_per_minute > 0:
            facts.append(("growth", f"{format_bytes(pressure.bytes_per_minute)}/min"))
        return [
            Condition(
                active=active, summary=text + held, value=ratio, unit="ratio", facts=tuple(facts)
            )
        ]


class LevelReached(Rule):
    """
    The pressure monitor has reached *level* or a graver one; it has a hysteresis of its own.

    Args:
        level: ``"elevated"`` or ``"critical"``.
        options: See `Rule`; by default critical, ``resolve_after="1m"``.
    """

    def __init__(self, level: str = "critical", **options: Unpack[NamedRuleOptions]) -> None:
        super().__init__(**(NamedRuleOptions(name="memory_level", severity="critical") | options))
        self.level = check_choice(level, ("elevated", "critical"), "level")

    def evaluator(self) -> Evaluator:
        """Return a function that remembers nothing."""
        return self._evaluate

    def _evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        del now, firing
        pressure = state.pressure
        if not state.running or pressure.level == "insufficient_data":
            return [Condition(active=None, summary="the level is not known")]
        ratio = pressure.used_ratio
        return [
            Condition(
                active=LEVELS[pressure.level] >= LEVELS[self.level],
                summary=": ".join((f"memory is {pressure.level}", *pressure.reasons[:1])),
                value=ratio,
                unit="" if ratio is None else "ratio",
                facts=tuple(("because", reason) for reason in pressure.reasons[1:4]),
            )
        ]


class ReliefIneffective(Rule):
    """
    Memory is short and relief does not lower it; critical once a restart is due.

    Args:
        options: See `Rule`; by default a warning, ``resolve_after="1m"``.
    """

    def __init__(self, **options: Unpack[NamedRuleOptions]) -> None:
        super().__init__(**(NamedRuleOptions(name="relief_ineffective") | options))

    def evaluator(self) -> Evaluator:
        """Return a function that remembers nothing."""
        return self._evaluate

    def _evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        del now
        level = state.pressure.level
        if not state.running or level == "insufficient_data":
            return [Condition(active=None, summary="whether relief helps is not known")]
        vain = None
        for alert in reversed(state.alerts):
            if alert.kind == "level":
                if LEVELS[alert.level] < LEVELS["elevated"]:
                    break  # what went before was another time
            elif vain is None or alert.kind == "recycle":
                vain = alert
        short = LEVELS[level] >= LEVELS["elevated"]
        if vain is None:
            # Ten alerts are all that is kept: what has fallen off the end is not resolved.
            active = None if short and firing else False
            return [Condition(active=active, summary="relief is effective again")]
        restart = vain.kind == "recycle"
        text = "relief frees nothing" + (", a restart is due" if restart else "")
        return [
            Condition(
                active=short,
                summary=f"{text}; memory is {level}",
                facts=tuple(("because", reason) for reason in vain.reasons[:4]),
                severity="critical" if restart else None,
            )
        ]


class LeakSuspected(Rule):
    """
    The detector found a leak, with the line that allocates and what holds it: one alert each.

    It is resolved when the leak has ended or was retracted. What may be a warm-up raises none.

    Bounded by: the reports that the detector keeps.
    Locks: none.
    Keeps alive: nothing.

    Args:
        resolve_after: Seconds without a further confirmation after which it is resolved even so,
            while the detector is watching. None waits for the end, which a slow leak needs: hours
            may pass between two confirmations.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        repeat: Seconds between two notices while it fires.
    """

    def __init__(
        self,
        *,
        resolve_after: float | str | None = None,
        name: str = "leak_suspected",
        severity: Severity = "warning",
        repeat: float | str | None = "1d",
    ) -> None:
        super().__init__(name=name, severity=severity, resolve_after=0.0, repeat=repeat)
        self.confirmed_within = (
            math.inf if resolve_after is None else check_seconds(resolve_after, "resolve_after", 1)
        )

    def evaluator(self) -> Evaluator:
        """Return a function that remembers when each finding was last confirmed."""
        return _Confirmed(self).evaluate


class _Confirmed:
    """The revision of each report and when it was first seen, by a clock that nobody sets."""

    def __init__(self, rule: LeakSuspected) -> None:
        self._rule = rule
        self._seen: dict[str, tuple[int, float]] = {}

    def evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        leaks = {report.id: report for report in state.reports if report.kind == "leak"}
        self._seen = {ident: seen for ident, seen in self._seen.items() if ident in leaks}
        # While it traces or rests, it confirms nothing.
        detector = state.detector
        asleep = detector is None or detector.state != "watching"
        found = []
        for ident, report in leaks.items():
            revision, at = self._seen.get(ident, (-1, now))
            if report.revision != revision:
                revision, at = report.revision, now
                self._seen[ident] = revision, at
            active: bool | None = report.is_leaking and now - at < self._rule.confirmed_within
            if not active and report.is_leaking and asleep and ident in firing:
                active = None
            found.append(_leak(report, active=active))
        return found


_LEAK_STATES = {
    "ended": "leak ended, what has grown is kept",
    "retracted": "no leak, what has grown was given back or has a bound",
}


def _leak(report: LeakReport, *, active: bool | None) -> Condition:
    trend = report.trend
    grown = format_bytes(trend.growth_bytes, signed=True)
    parts = [words.printable(report.headline, longest=160), f"{grown} in all"]
    facts = [(WHAT, report.headline)]
    facts.append(("verdict", words.VERDICTS.get(report.verdict.kind, report.verdict.kind)))
    facts.append(("advice", report.verdict.advice))
    if report.holders:
        holder = report.holders[0]
        count = words.count(holder.entries, holder.unit)
        facts.append(("holder", f"{holder.path} : {holder.type}, {count}"))
    if report.place is not None:
        place = words.Locations().shown(report.place)
        parts.append(f"allocated at {words.printable(place, longest=120)}")
        facts.append(("line", place))
    if trend.seconds_to_limit is not None:
        facts.append(("limit reached in", format_seconds(trend.seconds_to_limit)))
    facts.append(("report", report.id))
    if report.fingerprint:
        facts.append(("leak fingerprint", report.fingerprint))
    times = "once" if report.revision == 1 else f"{report.revision} times"
    facts.append(("confirmed", f"{times}, last {report.updated_at}"))
    return Condition(
        key=report.id,
        active=active,
        summary=f"{_LEAK_STATES.get(report.state or '', 'leak suspected')}: {', '.join(parts)}",
        value=trend.bytes_per_hour,
        unit="bytes/hour",
        facts=tuple(facts),
    )


class GrowthAbove(Rule):
    """
    Private memory grows by more than *bytes_per_hour*, seen over *window*.

    The rate is Sen's slope of the troughs (the lowest value of each fortieth of the window). It
    counts only while the troughs keep rising, with 99 % certainty: garbage that comes and goes,
    one large step, or a cache that fills up is not growth. Nothing is said before half of the
    window has passed.

    Bounded by: 40 points.
    Locks: none.
    Keeps alive: nothing.

    Args:
        bytes_per_hour: Bytes, or a string such as ``"64MiB"``.
        window: Seconds looked at, a minute to a week.
        options: See `Rule`; by default a warning, ``resolve_after="10m"``.

    Sources: see `memguard.leaks.growth.trend`.
    """

    def __init__(
        self,
        bytes_per_hour: int | str = "64MiB",
        *,
        window: float | str = "2h",
        **options: Unpack[NamedRuleOptions],
    ) -> None:
        super().__init__(**(NamedRuleOptions(name="memory_growth", resolve_after="10m") | options))
        self.bytes_per_hour = parse_bytes(bytes_per_hour, name="bytes_per_hour")
        if self.bytes_per_hour == 0:
            raise ConfigError("bytes_per_hour must be > 0 (got 0)")
        self.window = check_seconds(window, "window", 60, _WEEK)

    @property
    def longest_interval(self) -> float:
        """A tenth of the window: fewer points show no trend."""
        return self.window / _LEAST_TROUGHS

    def evaluator(self) -> Evaluator:
        """Return a function that remembers the troughs of one window."""
        return _Growth(self).evaluate


class _Growth:
    """The troughs of the last window and what they say."""

    def __init__(self, rule: GrowthAbove) -> None:
        self._rule = rule
        self._stretch = rule.window / _STRETCHES
        self._troughs: deque[Point] = deque(maxlen=_STRETCHES)
        self._began: float | None = None
        self._trough: Point | None = None
        self._trend: Trend | None = None

    def evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        reading = state.reading
        if reading.private is not None:
            # tracemalloc's own memory is none of the host's growth.
            self._add(now, reading.private - (reading.tracer or 0))
        trend = self._trend
        if trend is None:
            return [Condition(active=None, summary="growth is not known yet")]
        rate = trend.bytes_per_hour
        active = rate > self._rule.bytes_per_hour * (_STILL if firing else 1.0)
        span = format_seconds(trend.span_seconds)
        return [
            Condition(
                active=active and trend.kind is TrendKind.LEAK,
                summary=f"private memory: {format_bytes(rate, signed=True)}/h over {span}",
                value=rate,
                unit="bytes/hour",
                facts=(
                    ("now", format_bytes(trend.current_bytes)),
                    ("certainty", f"{trend.confidence:.1%}"),
                ),
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
        options: See `Rule`; by default a warning, ``fire_after="5m"``, ``resolve_after="5m"``.
    """

    def __init__(
        self,
        share: float = 0.10,
        *,
        window: float | str = "5m",
        **options: Unpack[NamedRuleOptions],
    ) -> None:
        defaults = NamedRuleOptions(name="gc_share", fire_after="5m", resolve_after="5m")
        super().__init__(**(defaults | options))
        self.share = check_number(share, "share", 0.001, 1)
        self.window = check_seconds(window, "window", 60, _WEEK)

    @property
    def longest_interval(self) -> float:
        """Half of the window: with less there is nothing to compare."""
        return self.window / 2

    def evaluator(self) -> Evaluator:
        """Return a function that remembers the pauses of one window."""
        return _GcShare(self).evaluate


class _GcShare:
    """How long was watched and how long was paused, at points of the last window."""

    def __init__(self, rule: GcShareAbove) -> None:
        self._rule = rule
        self._points: deque[tuple[float, float]] = deque(maxlen=_STRETCHES + 1)

    def evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        del now  # the watch has a time of its own, which stands still while it is stopped
        unknown = [Condition(active=None, summary="the collector's share is not known yet")]
        if state.gc is None:
            return unknown
        watched, paused = state.gc.watched_seconds, state.gc.pause_total
        points = self._points
        if points and (watched < points[-1][0] or paused < points[-1][1]):
            points.clear()  # the watch started over
        if not points or watched - points[-1][0] >= self._rule.window / _STRETCHES:
            points.append((watched, paused))
        while points[0][0] < watched - self._rule.window and len(points) > 1:
            points.popleft()
        span = watched - points[0][0]
        if span < self._rule.window / 2:
            return unknown
        share = (paused - points[0][1]) / span
        return [
            Condition(
                active=share > self._rule.share * (_STILL if firing else 1.0),
                summary=f"garbage collection took {share:.1%} of the last {format_seconds(span)}",
                value=share,
                unit="ratio",
                facts=(("longest pause", format_seconds(state.gc.pause_max)),),
            )
        ]


class When(Rule):
    """
    A condition of your own.

    Bounded by: its options.
    Locks: none.
    Keeps alive: *check*.

    Args:
        name: Unique among the rules of an `Alerts`.
        check: Called as ``check(state)`` in the thread of the `Alerts`, under no lock: True or
            False; None where it is not known; or a text, which is then the summary.
        summary: One line of what it means; by default the name.
        options: See `Rule`; by default a warning.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[GuardState], bool | str | None],
        *,
        summary: str = "",
        **options: Unpack[RuleOptions],
    ) -> None:
        super().__init__(name=name, **options)
        self._check = check_callable(check, "check", optional=False)
        self._summary = check_instance(summary, str, "summary") or name

    def evaluator(self) -> Evaluator:
        """Return a function; what it remembers is up to *check*."""
        return self._evaluate

    def _evaluate(self, state: GuardState, now: float, firing: Keys) -> Conditions:
        del now, firing
        found = self._check(state)
        if isinstance(found, str):
            return [Condition(active=bool(found), summary=found or self._summary)]
        if not isinstance(found, bool | None):  # a coroutine would be true forever
            kind = type(found).__name__
            raise TypeError(f"check must return True, False, None or a text (got {kind})")
        return [Condition(active=found, summary=self._summary)]


def default_rules() -> tuple[Rule, ...]:
    """Return one rule of each kind, with its defaults: what an `Alerts` evaluates by itself."""
    return (
        UsedAbove(),
        LevelReached(),
        ReliefIneffective(),
        LeakSuspected(),
        GrowthAbove(),
        GcShareAbove(),
    )
