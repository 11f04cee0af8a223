"""From conditions to alerts: pending, firing, resolved. Pure: the time is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from memguard.bounded.options import check_choice
from memguard.report.alerting.notice import (
    LONGEST_SUMMARY,
    RANK,
    SEVERITIES,
    Severity,
    finite,
    shown_facts,
)
from memguard.report.alerting.rules import Condition, Evaluator, Rule
from memguard.report.render.words import printable
from memguard.report.state import GuardState

MOST_ALERTS = 500
"""Pending and firing together."""
LONGEST_KEY = 100


@dataclass(slots=True)
class TrackedAlert:
    """One alert that is pending or fires: what its rule sees, and what was sent about it."""

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
    inactive_since: float | None = None
    known: bool = True
    """False while its rule does not know: what was seen last may be no more."""

    # What the notice policy remembers.
    notified_at: float | None = None
    notified_severity: Severity | None = None
    notices: int = 0
    suppressed: bool = False

    def see(self, condition: Condition) -> None:
        """Take over what *condition* says; the severity of an alert only rises."""
        self.summary, self.facts = condition.summary, condition.facts
        self.value, self.unit = condition.value, condition.unit
        if condition.severity is not None and RANK[condition.severity] > RANK[self.severity]:
            self.severity = condition.severity


@dataclass(slots=True)
class Evaluation:
    """What one evaluation found."""

    firing: list[TrackedAlert] = field(default_factory=list)
    resolved: list[TrackedAlert] = field(default_factory=list)
    """Those that fired until now."""
    errors: list[tuple[str, BaseException]] = field(default_factory=list)
    """(rule, its error): its alerts stay as they were."""


class AlertTracker:
    """
    Follow each alert from its first condition to its end.

    Bounded by: 500 alerts, pending and firing; further ones are counted and left out.
    Locks: none; one thread at a time evaluates.
    Keeps alive: the rules; of the state only strings and numbers.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._evaluators: list[tuple[Rule, Evaluator]] = [
            (rule, rule.evaluator()) for rule in rules
        ]
        self._alerts: dict[tuple[str, str], TrackedAlert] = {}
        self.left_out = 0

    @property
    def alerts(self) -> tuple[TrackedAlert, ...]:
        """Pending and firing alerts, oldest first. Safe while another thread evaluates."""
        return tuple(self._alerts.copy().values())

    def evaluate(self, state: GuardState, now: float) -> Evaluation:
        """
        Return what fires and what is resolved, by *state* at *now* (monotonic seconds).

        Raises nothing: the error of a rule is in the result.
        """
        found = Evaluation()
        for rule, evaluate in self._evaluators:
            mine = {key: each for (name, key), each in self._alerts.items() if name == rule.name}
            firing = frozenset(key for key, each in mine.items() if each.fires)
            try:
                given = map(_checked, evaluate(state, now, firing))
                conditions = {each.key: each for each in given}
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reason: the host's predicate, or strange numbers
                found.errors.append((rule.name, error))
                conditions = {key: Condition(key=key, active=None, summary="") for key in mine}
            for key in mine.keys() - conditions.keys():
                conditions[key] = Condition(key=key, active=False, summary=mine[key].summary)
            for key, condition in conditions.items():
                alert = mine.get(key)
                if condition.active and alert is None:
                    alert = self._begin(rule, key, state.time, now)
                if alert is not None:
                    self._follow(alert, condition, now, found)
        return found

    def _follow(
        self, alert: TrackedAlert, condition: Condition, now: float, found: Evaluation
    ) -> None:
        alert.known = condition.active is not None
        if condition.active:
            alert.see(condition)
            alert.inactive_since = None
            alert.fires = alert.fires or now - alert.since >= alert.rule.fire_after
        elif self._ends(alert, condition, now):
            del self._alerts[alert.rule.name, alert.key]
            if alert.fires:
                found.resolved.append(alert)
            return
        if alert.fires:
            found.firing.append(alert)

    def _begin(self, rule: Rule, key: str, wall: float, now: float) -> TrackedAlert | None:
        if len(self._alerts) >= MOST_ALERTS:
            self.left_out += 1
            return None
        alert = TrackedAlert(rule, key, now, wall, severity=rule.severity)
        self._alerts[rule.name, key] = alert
        return alert

    def _ends(self, alert: TrackedAlert, condition: Condition, now: float) -> bool:
        """Return whether *alert*, whose condition does not hold or is not known, is over."""
        if not alert.fires:
            return True  # it did not last, or that is not known
        if condition.active is None:
            alert.inactive_since = None
            return False
        if alert.inactive_since is None:
            alert.inactive_since = now
        if now - alert.inactive_since < alert.rule.resolve_after:
            return False
        alert.summary, alert.value, alert.unit = condition.summary, condition.value, condition.unit
        return True


def _checked(condition: Condition) -> Condition:
    """Return *condition* fit for a notice, or raise what is wrong: a rule may be the host's."""
    severity = condition.severity
    return replace(
        condition,
        key=condition.key[:LONGEST_KEY],
        summary=printable(condition.summary, longest=LONGEST_SUMMARY),
        facts=shown_facts(condition.facts),
        value=finite(condition.value),
        unit=printable(condition.unit, longest=40),
        severity=None if severity is None else check_choice(severity, SEVERITIES, "severity"),
    )
