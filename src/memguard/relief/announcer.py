"""Whom a monitor tells: the log, the last ten alerts, and the host's callbacks."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from memguard import log
from memguard.lifecycle.failures import Failures
from memguard.relief.records import Alert, AlertKind

MOST_ALERTS = 10
_EVENTS = {
    "level": "pressure.changed",
    "ineffective": "relief.ineffective",
    "recycle": "relief.recycle_requested",
}


class Announcer:
    """
    Tell alerts, and remember the last ten.

    Bounded by: ``MOST_ALERTS`` alerts.
    Locks: none; a monitor's tick is the only caller that tells.
    Keeps alive: the callbacks; the first error of a callback until it is taken.
    """

    def __init__(
        self,
        monitor: str,
        failures: Failures,
        *,
        on_level: Callable[[Alert], object] | None,
        on_alert: Callable[[Alert], object] | None,
    ) -> None:
        self._monitor = monitor
        self._failures = failures
        self._on_level = on_level
        self._on_alert = on_alert
        self._alerts: deque[Alert] = deque(maxlen=MOST_ALERTS)
        self._error: Exception | None = None
        self._raised: Counter[AlertKind] = Counter()

    @property
    def latest(self) -> tuple[Alert, ...]:
        """The last ten alerts, oldest first. Thread-safe."""
        return tuple(self._alerts.copy())

    @property
    def by_kind(self) -> tuple[tuple[AlertKind, int], ...]:
        """(kind, alerts ever raised), by name. Thread-safe."""
        return tuple(sorted(self._raised.copy().items()))

    @property
    def count(self) -> int:
        """Alerts ever raised."""
        return sum(count for _, count in self.by_kind)

    @property
    def changes(self) -> int:
        """Of these, changes of the level."""
        return self._raised["level"]

    @property
    def dropped(self) -> int:
        """Alerts that are no longer among the latest."""
        # Not by what is in ``latest``: that may be one ahead of the count, or one behind.
        return max(0, self.count - MOST_ALERTS)

    def tell(self, alert: Alert) -> None:
        """Log *alert*, remember it, and call whoever wants to know."""
        self._alerts.append(alert)
        self._raised[alert.kind] += 1
        worse = alert.kind != "level" or alert.level in ("elevated", "critical")
        log.event(
            logging.WARNING if worse else logging.INFO,
            _EVENTS[alert.kind],
            monitor=self._monitor,
            level=alert.level,
            previous=alert.previous,
            used=alert.used,
            limit=alert.limit,
            source=alert.source,
            reasons="; ".join(alert.reasons),
        )
        if alert.kind == "level":
            self.call(self._on_level, alert)
        self.call(self._on_alert, alert)

    def call(self, callback: Callable[[Any], object] | None, argument: object) -> None:
        """Call *callback*, where there is one; its failure is counted and kept."""
        if callback is None:
            return
        try:
            callback(argument)
        except Exception as error:  # noqa: BLE001 - reason: the host's code; counted, and raised where asked for
            self._failures.add("callback", error)
            if self._error is None:
                self._error = error

    def take_error(self) -> Exception | None:
        """Return the first error of a callback since the last time, and forget it."""
        error, self._error = self._error, None
        return error
