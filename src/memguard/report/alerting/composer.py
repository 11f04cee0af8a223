"""Messages about alerts: from what is to be told to what a sink delivers."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping

from memguard.report.alerting.announcer import Told
from memguard.report.alerting.notice import Notice, Status, checked_labels, fingerprint
from memguard.report.render.words import printable


class Composer:
    """
    Make the messages of one `Alerts` in one process.

    Bounded by, Locks: its labels; none.
    Keeps alive: strings.
    """

    def __init__(self, guard: str, labels: Mapping[str, str] | None) -> None:
        self._guard = printable(guard, longest=100)
        self._labels = checked_labels(labels)
        self.reset()

    def reset(self) -> None:
        """Be of this process, in a forked child."""
        self._host = printable(socket.gethostname(), longest=100)
        self._pid = os.getpid()

    def fingerprint(self, rule: str, key: str) -> str:
        """Return what names the alert of *rule* and *key*, in this process alone."""
        # Two workers with the same trouble are two alerts: the end of one is not that of the other.
        labels = (part for label in self._labels for part in label)
        return fingerprint((self._guard, self._host, str(self._pid), rule, key, *labels))

    def notice(self, told: Told, at: float) -> Notice:
        """Return the message for *told*, made *at* seconds since the epoch."""
        alert = told.alert
        status: Status = told.status
        return Notice(
            id=secrets.token_hex(8),
            fingerprint=self.fingerprint(alert.rule.name, alert.key),
            status=status,
            rule=alert.rule.name,
            # The end is as grave as what was told: it has to reach the same people.
            severity=alert.told_severity or alert.severity,
            summary=alert.summary,
            facts=alert.facts,
            value=alert.value,
            unit=alert.unit,
            number=alert.told if status == "firing" else alert.told + 1,
            started_at=alert.since_wall,
            ended_at=None if status == "firing" else at,
            time=at,
            guard=self._guard,
            host=self._host,
            pid=self._pid,
            labels=self._labels,
        )

    def test(self, at: float) -> Notice:
        """Return a message that says that it is a test."""
        return Notice(
            id=secrets.token_hex(8),
            fingerprint=self.fingerprint("test", ""),
            status="test",
            rule="test",
            severity="info",
            summary="this is a test: alerts of memguard arrive here",
            started_at=at,
            time=at,
            guard=self._guard,
            host=self._host,
            pid=self._pid,
            labels=self._labels,
        )
