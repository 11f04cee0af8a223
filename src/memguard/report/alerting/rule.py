"""What a rule is: a name, how grave it is, how long it must last, and a way to look at figures."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from memguard.errors import ConfigError
from memguard.report.alerting.notice import Severity, checked_severity
from memguard.report.figures import Figures
from memguard.units import parse_seconds

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What a rule sees of one thing that it watches."""

    active: bool | None
    """None where the figures do not tell: what fires goes on, what is pending begins anew."""
    summary: str
    """One line, for people: what, how much, where."""
    key: str = ""
    """Which of several things of one rule it is: the id of a leak."""
    value: float | None = None
    unit: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    severity: Severity | None = None
    """Where it is graver than the rule says."""


Look = Callable[[Figures, float, Collection[str]], Sequence[Sign]]
"""``look(figures, now, firing)``: *now* in monotonic seconds, *firing* the keys that fire."""


class Rule(ABC):
    """
    When an operator is told what. Pure: it is given figures and the time.

    Bounded by: its options; what it remembers is in what `probe` returns.
    Locks: none.
    Keeps alive: nothing of the host's, but for the predicate of a `When`.

    Args:
        name: Unique among the rules of an `Alerts`: letters, digits, ``_``, ``.``, ``-``.
        severity: ``"info"``, ``"warning"`` or ``"critical"``.
        lasting: Seconds that it must hold before it fires.
        calm: Seconds that it must not hold before it is over.
        repeat: Seconds between two messages while it fires; None takes that of the `Alerts`.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        name: str,
        severity: Severity = "warning",
        lasting: float | str = 0.0,
        calm: float | str = 60.0,
        repeat: float | str | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"name must be a string (got {type(name).__name__})")
        if not _NAME.fullmatch(name):
            raise ConfigError(
                "name must be 1 to 60 letters, digits, '_', '.' or '-', a letter first "
                f"(got {name[:60]!r})"
            )
        self.name = name
        self.severity: Severity = checked_severity(severity, name="severity")
        self.lasting = parse_seconds(lasting, name="lasting")
        self.calm = parse_seconds(calm, name="calm")
        self.repeat = None if repeat is None else parse_seconds(repeat, name="repeat")
        if self.repeat is not None and self.repeat < 1:
            raise ConfigError(f"repeat must be >= 1 second (got {repeat!r})")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, severity={self.severity!r})"

    @property
    def longest_interval(self) -> float:
        """Seconds between two looks with which it can tell anything at all."""
        return math.inf

    @abstractmethod
    def probe(self) -> Look:
        """Return a way to look, with a memory of its own."""


def checked_number(value: float, *, name: str, least: float, most: float) -> float:
    """Return *value* as a float, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number (got {type(value).__name__})")
    if not least <= value <= most:
        raise ConfigError(f"{name} must be from {least:g} to {most:g} (got {value!r})")
    return float(value)
