"""The notice that an operator gets: frozen, strings and numbers only, bounded in size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from memguard.bounded.options import check_instance
from memguard.errors import ConfigError
from memguard.report.render.words import printable

Severity = Literal["info", "warning", "critical"]
Status = Literal["firing", "resolved", "test"]

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""Least grave first."""
RANK: dict[Severity, int] = {severity: rank for rank, severity in enumerate(SEVERITIES)}
MOST_FACTS = 20
LONGEST_SUMMARY = 300
LONGEST_VALUE = 200
VERSION = 1
"""Of `Notice.to_dict`; counts its changes."""


WHAT = "what"
"""The fact that a title names, where a rule gives one: what grows, for a leak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message about one alert: it fires, fires still, or is resolved."""

    id: str
    """Of this message; the same in every attempt to deliver it, so that a receiver recognises one
    that it gets twice."""
    fingerprint: str
    """Of the alert: the same in all messages about it. 16 hexadecimal digits."""
    status: Status
    rule: str
    severity: Severity
    summary: str
    """One line."""
    facts: tuple[tuple[str, str], ...] = ()
    """Further names and values, for people."""
    value: float | None = None
    """What the rule measured, in the unit that `unit` names."""
    unit: str = ""
    """``"ratio"``, ``"bytes/hour"``, or empty."""
    number: int = 1
    """1 for the first message about this alert, then 2, 3, …"""
    started_at: float = 0.0
    """When the condition began, seconds since the epoch."""
    ended_at: float | None = None
    """When it was resolved; None while it is not."""
    time: float = 0.0
    """When this message was made."""
    guard: str = ""
    host: str = ""
    pid: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    """What was given to `Alerts`: service, environment, …"""

    @property
    def title(self) -> str:
        """One line for a subject: status, severity, rule, what it names, and where."""
        state = self.severity if self.status == "firing" else self.status
        what = dict(self.facts).get(WHAT)
        named = f"{printable(what, longest=100)}, " if what else ""
        where = f"{self.guard} on {self.host}"
        return printable(f"[{state}] {self.rule}: {named}{where}", longest=250 if what else 150)

    @property
    def period(self) -> list[tuple[str, str]]:
        """When it began and, where it is resolved, when it ended: names and ISO 8601 times."""
        times = [("since", self.started_at), ("until", self.ended_at)]
        return [(name, iso(seconds)) for name, seconds in times if seconds is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers and dicts, ready for JSON; times in ISO 8601, UTC."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("started_at", "ended_at", "time"):
            found[name] = None if found[name] is None else iso(found[name])
        return {
            "version": VERSION,
            **found,
            "facts": dict(self.facts),
            "labels": dict(self.labels),
        }


def iso(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(seconds, tz=UTC)
    return moment.isoformat(timespec="milliseconds")


def fingerprint(parts: Iterable[str]) -> str:
    """Return the name of what *parts* describe, the same in every process: 16 hex digits."""
    # Each part with its length, so that ("ab", "c") and ("a", "bc") differ.
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def shown_facts(found: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return *found* as a notice may carry it: few, short and printable."""
    shown = [
        (printable(name, longest=60), printable(value, longest=LONGEST_VALUE))
        for name, value in found
    ]
    return tuple(shown[:MOST_FACTS])


def finite(value: float | None) -> float | None:
    """Return *value*; None where JSON has no number for it."""
    return value if value is not None and math.isfinite(value) else None


def check_labels(labels: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """
    Return *labels* sorted by name.

    Raises:
        TypeError: They are no mapping of strings to strings.
        ConfigError: There are more than 20, or one is longer than 200 characters.
    """
    if labels is None:
        return ()
    check_instance(labels, Mapping, "labels")
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("labels must be strings, names and values; convert them with str()")
        if not 0 < len(name) <= LONGEST_VALUE or len(value) > LONGEST_VALUE:
            raise ConfigError("a label must have 1 to 200 characters, its value up to 200")
    if len(labels) > MOST_FACTS:
        raise ConfigError(f"labels must be {MOST_FACTS} at most (got {len(labels)})")
    return tuple(sorted((printable(name), printable(value)) for name, value in labels.items()))
