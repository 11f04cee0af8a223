"""Which alerts become notices now: each once, again after a while, within rate limits."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from memguard.bounded.options import check_int, check_seconds
from memguard.report.alerting.notice import RANK, Notice, Status, check_labels, fingerprint
from memguard.report.alerting.tracker import Evaluation, TrackedAlert
from memguard.report.render.words import printable


class RateLimit:
    """
    How many notices, at most: *burst* at once, and one more each *every* seconds.

    Bounded by, Locks: it is two numbers.
    Keeps alive: nothing.

    Raises:
        TypeError: An argument is of the wrong kind.
        ConfigError: *burst* is not from 1 to 10,000, or *every* is below a second.
    """

    __slots__ = ("burst", "every")

    def __init__(self, burst: int, every: float | str) -> None:
        self.burst = check_int(burst, "burst", 1, 10_000)
        self.every = check_seconds(every, "every", 1)

    def __repr__(self) -> str:
        return f"RateLimit({self.burst}, every={self.every:g})"


class TokenBucket:
    """
    Tokens for notices: *burst* at first, one more each *every* seconds, never more than *burst*.

    Bounded by: two numbers.
    Locks: none.
    Keeps alive: nothing.
    """

    __slots__ = ("_at", "_limit", "_tokens")

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._at: float | None = None

    def has(self, now: float) -> bool:
        """Return whether there is a token at *now*, monotonic seconds."""
        if self._at is not None:
            gained = max(0.0, now - self._at) / self._limit.every
            self._tokens = min(float(self._limit.burst), self._tokens + gained)
        self._at = now
        # A hair less is a token: sums of floats do not come out even.
        return self._tokens >= 1.0 - 1e-9

    def take(self) -> None:
        """Take the token that `has` said is there."""
        self._tokens = max(0.0, self._tokens - 1.0)


class NoticePolicy:
    """
    Decide which alerts need a notice. Pure.

    There is one when an alert fires, when it becomes graver, again after *repeat*, and when it is
    resolved, if there was one before. What is held back for the rate is sent as soon as there is a
    token, the gravest first, unless it is resolved by then. The end of an alert needs no token:
    there is one for each alert that was sent.

    Bounded by: one bucket for each rule, and one for all.
    Locks: none; one thread at a time decides.
    Keeps alive: nothing.
    """

    def __init__(
        self, *, repeat: float, resolved: bool, rate: RateLimit, rate_per_rule: RateLimit
    ) -> None:
        self._repeat = repeat
        self._resolved = resolved
        self._rate_per_rule = rate_per_rule
        self._all = TokenBucket(rate)
        self._buckets: dict[str, TokenBucket] = {}
        self.suppressed = 0
        """Notices that were held back; some are sent later."""

    def decide(self, found: Evaluation, now: float) -> list[tuple[TrackedAlert, Status]]:
        """Return what needs a notice at *now*, monotonic seconds: what is resolved first."""
        chosen: list[tuple[TrackedAlert, Status]] = [
            (alert, "resolved") for alert in found.resolved if alert.notices and self._resolved
        ]
        due = [alert for alert in found.firing if self._is_due(alert, now)]
        for alert in sorted(due, key=lambda each: (-RANK[each.severity], each.since)):
            bucket = self._buckets.setdefault(alert.rule.name, TokenBucket(self._rate_per_rule))
            # Both are called, because both refill when they are called.
            may, all_may = bucket.has(now), self._all.has(now)
            if may and all_may:
                bucket.take()
                self._all.take()
                alert.notified_at, alert.notified_severity = now, alert.severity
                alert.notices += 1
                alert.suppressed = False
                chosen.append((alert, "firing"))
            elif not alert.suppressed:
                alert.suppressed = True
                self.suppressed += 1
        return chosen

    def _is_due(self, alert: TrackedAlert, now: float) -> bool:
        if alert.inactive_since is not None or not alert.known:
            return False  # about to be resolved, or not known: no news, and no reminder
        if alert.notified_at is None or alert.notified_severity is None:
            return True
        if RANK[alert.severity] > RANK[alert.notified_severity]:
            return True
        repeat = self._repeat if alert.rule.repeat is None else alert.rule.repeat
        return now - alert.notified_at >= repeat


class NoticeFactory:
    """
    Make the notices of one `Alerts` in one process.

    Bounded by, Locks: its labels; none.
    Keeps alive: strings.
    """

    def __init__(self, guard: str, labels: Mapping[str, str] | None) -> None:
        self._guard = printable(guard, longest=100)
        self._labels = check_labels(labels)
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

    def notice(self, alert: TrackedAlert, status: Status, at: float) -> Notice:
        """Return the notice about *alert*, made *at* seconds since the epoch."""
        fires = status == "firing"
        return self._made(
            alert.rule.name,
            alert.key,
            at,
            status=status,
            # The end is as grave as what was sent: it has to reach the same people.
            severity=alert.notified_severity or alert.severity,
            summary=alert.summary,
            facts=alert.facts,
            value=alert.value,
            unit=alert.unit,
            number=alert.notices if fires else alert.notices + 1,
            started_at=alert.since_wall,
            ended_at=None if fires else at,
        )

    def test(self, at: float) -> Notice:
        """Return a notice that says that it is a test."""
        text = "this is a test: alerts of memguard arrive here"
        return self._made(
            "test", "", at, status="test", severity="info", summary=text, started_at=at
        )

    def _made(self, rule: str, key: str, at: float, **fields: Any) -> Notice:
        return Notice(
            id=secrets.token_hex(8),
            fingerprint=self.fingerprint(rule, key),
            rule=rule,
            time=at,
            guard=self._guard,
            host=self._host,
            pid=self._pid,
            labels=self._labels,
            **fields,
        )
