"""From signs to alerts: pending, firing, over. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memguard.report.alerting.notice import (
    LONGEST_SUMMARY,
    RANK,
    Severity,
    checked_severity,
    facts,
    finite,
)
from memguard.report.alerting.rule import Look, Rule, Sign
from memguard.report.figures import Figures
from memguard.report.render.words import printable

MOST_ALERTS = 500
"""Pending and firing together."""
LONGEST_KEY = 100


@dataclass(slots=True)
class Tracked:
    """One alert that is pending or fires, as its rule sees it and as it was told."""

    rule: Rule
    key: str
    since: float
    """When its condition began, monotonic seconds."""
    since_wall: float
    """The same, since the epoch."""
    severity: Severity
    summary: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    value: float | None = None
    unit: str = ""
    fires: bool = False
    calm_since: float | None = None
    seen: bool = True
    """False while its rule cannot tell: what was seen last may be no more."""

    # What `announcing` remembers.
    told_at: float | None = None
    told_severity: Severity | None = None
    told: int = 0
    held: bool = False

    def see(self, sign: Sign) -> None:
        """Take over what *sign* says; the severity of an alert only rises."""
        self.summary, self.facts = sign.summary, sign.facts
        self.value, self.unit = sign.value, sign.unit
        if sign.severity is not None and RANK[sign.severity] > RANK[self.severity]:
            self.severity = sign.severity


@dataclass(slots=True)
class Judged:
    """What one evaluation found."""

    firing: list[Tracked] = field(default_factory=list)
    over: list[Tracked] = field(default_factory=list)
    """Those that fired until now."""
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    """(rule, its error): its alerts stay as they were."""


class Judge:
    """
    Follow each alert from its first sign to its end.

    Bounded by: 500 alerts, pending and firing; further ones are counted and left out.
    Locks: none; one thread at a time evaluates.
    Keeps alive: the rules; of the figures only strings and numbers.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._looks: list[tuple[Rule, Look]] = [(rule, rule.probe()) for rule in rules]
        self._tracked: dict[tuple[str, str], Tracked] = {}
        self.left_out = 0

    @property
    def tracked(self) -> tuple[Tracked, ...]:
        """Pending and firing alerts, oldest first. Safe while another thread evaluates."""
        return tuple(self._tracked.copy().values())

    def evaluate(self, figures: Figures, now: float) -> Judged:
        """
        Return what fires and what is over, by *figures* at *now* (monotonic seconds).

        Raises nothing: the error of a rule is in the result.
        """
        judged = Judged()
        for rule, look in self._looks:
            mine = {key: each for (name, key), each in self._tracked.items() if name == rule.name}
            firing = frozenset(key for key, each in mine.items() if each.fires)
            try:
                signs = {sign.key: sign for sign in map(_clean, look(figures, now, firing))}
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: the host's predicate, or strange figures
                judged.errors.append((rule.name, error))
                signs = {key: Sign(key=key, active=None, summary="") for key in mine}
            for key in mine.keys() - signs.keys():
                signs[key] = Sign(key=key, active=False, summary=mine[key].summary)
            for key, sign in signs.items():
                alert = mine.get(key)
                if sign.active and alert is None:
                    alert = self._begin(rule, key, figures.time, now)
                if alert is not None:
                    self._follow(alert, sign, now, judged)
        return judged

    def _follow(self, alert: Tracked, sign: Sign, now: float, judged: Judged) -> None:
        alert.seen = sign.active is not None
        if sign.active:
            alert.see(sign)
            alert.calm_since = None
            alert.fires = alert.fires or now - alert.since >= alert.rule.lasting
        elif self._ends(alert, sign, now):
            del self._tracked[alert.rule.name, alert.key]
            if alert.fires:
                judged.over.append(alert)
            return
        if alert.fires:
            judged.firing.append(alert)

    def _begin(self, rule: Rule, key: str, wall: float, now: float) -> Tracked | None:
        if len(self._tracked) >= MOST_ALERTS:
            self.left_out += 1
            return None
        alert = Tracked(rule, key, now, wall, severity=rule.severity)
        self._tracked[rule.name, key] = alert
        return alert

    def _ends(self, alert: Tracked, sign: Sign, now: float) -> bool:
        """Return whether *alert*, whose condition does not hold or cannot be told, is over."""
        if not alert.fires:
            return True  # it did not last, or that cannot be told
        if sign.active is None:
            alert.calm_since = None
            return False
        if alert.calm_since is None:
            alert.calm_since = now
        if now - alert.calm_since < alert.rule.calm:
            return False
        alert.summary, alert.value, alert.unit = sign.summary, sign.value, sign.unit
        return True


def _clean(sign: Sign) -> Sign:
    """Return *sign* as it may be told, or raise what is wrong with it: a rule may be the host's."""
    severity = sign.severity
    return replace(
        sign,
        key=sign.key[:LONGEST_KEY],
        summary=printable(sign.summary, longest=LONGEST_SUMMARY),
        facts=facts(sign.facts),
        value=finite(sign.value),
        unit=printable(sign.unit, longest=40),
        severity=None if severity is None else checked_severity(severity, name="severity"),
    )
