"""The rules that come with memguard. Pure: figures and a time in, signs out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from memguard.errors import ConfigError
from memguard.relief.levels import SEVERITY as LEVELS
from memguard.report.alerting.leaking import LeakSuspected
from memguard.report.alerting.measured import GcShareAbove, GrowthAbove
from memguard.report.alerting.notice import Severity
from memguard.report.alerting.rule import Look, Rule, Sign, checked_number
from memguard.report.figures import Figures
from memguard.units import format_bytes, format_seconds

__all__ = [
    "GcShareAbove",
    "GrowthAbove",
    "LeakSuspected",
    "LevelReached",
    "ReliefIneffective",
    "Rule",
    "UsedAbove",
    "When",
    "default_rules",
]


class UsedAbove(Rule):
    """
    Memory that cannot be reclaimed is above *ratio* of the limit.

    Bounded by, Locks, Keeps alive: as every `Rule`.

    Args:
        ratio: Used over limit, 0 to 1.
        clear: It is over below this; by default 0.05 less.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.
    """

    def __init__(
        self,
        ratio: float = 0.85,
        *,
        clear: float | None = None,
        name: str = "memory_used",
        severity: Severity = "critical",
        lasting: float | str = "5m",
        calm: float | str = "1m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)
        self.ratio = checked_number(ratio, name="ratio", least=0.01, most=1.0)
        lower = max(0.0, round(self.ratio - 0.05, 6)) if clear is None else clear
        self.clear = checked_number(lower, name="clear", least=0.0, most=self.ratio)

    def probe(self) -> Look:
        """Return a way to look; it remembers nothing."""
        return self._look

    def _look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        del now
        state = figures.pressure
        ratio = state.used_ratio if figures.running else None  # else it is of an hour ago
        if ratio is None:
            return [Sign(active=None, summary="how much is used cannot be told")]
        active = ratio > self.clear if firing else ratio > self.ratio
        text = f"{ratio:.1%} of {format_bytes(state.limit or 0)} used ({state.source})"
        held = ""
        if ratio > self.ratio:
            held = f", above {self.ratio:.0%}"
            if self.lasting:
                held += f" for {format_seconds(self.lasting)}"
        elif active:
            held = f", not yet down to {self.clear:.0%}"
        facts = [("used", format_bytes(state.used or 0)), ("level", state.level)]
        if state.private is not None:
            facts.append(("of this process", format_bytes(state.private)))
        if state.bytes_per_minute > 0:
            facts.append(("growth", f"{format_bytes(state.bytes_per_minute)}/min"))
        return [
            Sign(active=active, summary=text + held, value=ratio, unit="ratio", facts=tuple(facts))
        ]


class LevelReached(Rule):
    """
    The pressure monitor has reached *level* or a graver one.

    The monitor has a hysteresis of its own.

    Bounded by, Locks, Keeps alive: as every `Rule`.

    Args:
        level: ``"elevated"`` or ``"critical"``.
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.
    """

    def __init__(
        self,
        level: str = "critical",
        *,
        name: str = "memory_level",
        severity: Severity = "critical",
        lasting: float | str = 0.0,
        calm: float | str = "1m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)
        if level not in ("elevated", "critical"):
            raise ConfigError(f"level must be 'elevated' or 'critical' (got {level!r})")
        self.level = level

    def probe(self) -> Look:
        """Return a way to look; it remembers nothing."""
        return self._look

    def _look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        del now, firing
        state = figures.pressure
        if not figures.running or state.level == "insufficient_data":
            return [Sign(active=None, summary="the level cannot be told")]
        ratio = state.used_ratio
        return [
            Sign(
                active=LEVELS[state.level] >= (2 if self.level == "elevated" else 3),
                summary=": ".join((f"memory is {state.level}", *state.reasons[:1])),
                value=ratio,
                unit="" if ratio is None else "ratio",
                facts=tuple(("because", reason) for reason in state.reasons[1:4]),
            )
        ]


class ReliefIneffective(Rule):
    """
    Memory is short and what relief gives back does not lower it; critical once a restart is due.

    Bounded by, Locks, Keeps alive: as every `Rule`.

    Args:
        name: Unique among the rules of an `Alerts`.
        severity: How grave it is, as long as no restart is asked for.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.
    """

    def __init__(
        self,
        *,
        name: str = "relief_ineffective",
        severity: Severity = "warning",
        lasting: float | str = 0.0,
        calm: float | str = "1m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)

    def probe(self) -> Look:
        """Return a way to look; it remembers nothing."""
        return self._look

    def _look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        del now
        level = figures.pressure.level
        if not figures.running or level == "insufficient_data":
            return [Sign(active=None, summary="whether relief helps cannot be told")]
        vain = None
        for alert in reversed(figures.alerts):
            if alert.kind == "level":
                if LEVELS[alert.level] < 2:
                    break  # what went before was another time
            elif vain is None or alert.kind == "recycle":
                vain = alert
        short = LEVELS[level] >= 2
        if vain is None:
            # Ten alerts are all that is kept: what has fallen off the end is not over.
            active = None if short and firing else False
            return [Sign(active=active, summary="relief has not been in vain")]
        asks = vain.kind == "recycle"
        text = "relief gives nothing back" + (", a restart is due" if asks else "")
        return [
            Sign(
                active=short,
                summary=f"{text}; memory is {level}",
                facts=tuple(("because", reason) for reason in vain.reasons[:4]),
                severity="critical" if asks else None,
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
        check: Called as ``check(figures)`` in the thread of the `Alerts`, under no lock: True or
            False; None where it cannot be told; or a text, which is then the summary.
        severity: How grave it is.
        summary: One line of what it means; by default the name.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[Figures], bool | str | None],
        *,
        severity: Severity = "warning",
        summary: str = "",
        lasting: float | str = 0.0,
        calm: float | str = "1m",
        repeat: float | str | None = None,
    ) -> None:
        super().__init__(name=name, severity=severity, lasting=lasting, calm=calm, repeat=repeat)
        if not callable(check):
            raise TypeError(f"check must be callable (got {type(check).__name__})")
        if not isinstance(summary, str):
            raise TypeError(f"summary must be a string (got {type(summary).__name__})")
        self._check = check
        self._summary = summary or name

    def probe(self) -> Look:
        """Return a way to look; what it remembers is up to *check*."""
        return self._look

    def _look(self, figures: Figures, now: float, firing: Collection[str]) -> Sequence[Sign]:
        del now, firing
        found = self._check(figures)
        if isinstance(found, str):
            return [Sign(active=bool(found), summary=found or self._summary)]
        if not isinstance(found, bool | None):  # a coroutine would be true for ever
            kind = type(found).__name__
            raise TypeError(f"check must return True, False, None or a text (got {kind})")
        return [Sign(active=found, summary=self._summary)]


def default_rules() -> tuple[Rule, ...]:
    """Return one rule of each kind, with its defaults: what an `Alerts` watches if not told."""
    return (
        UsedAbove(),
        LevelReached(),
        ReliefIneffective(),
        LeakSuspected(),
        GrowthAbove(),
        GcShareAbove(),
    )
