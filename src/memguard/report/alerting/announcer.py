"""Which alerts are told now: each once, again after a while, and never too many. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from memguard.errors import ConfigError
from memguard.report.alerting.judge import Judged, Tracked
from memguard.report.alerting.notice import RANK
from memguard.units import parse_seconds


class RateLimit:
    """
    How many messages, at most: *burst* at once, and one more each *every* seconds.

    Bounded by, Locks: it is two numbers.
    Keeps alive: nothing.

    Raises:
        TypeError: An argument is of the wrong kind.
        ConfigError: *burst* is not from 1 to 10,000, or *every* is below a second.
    """

    __slots__ = ("burst", "every")

    def __init__(self, burst: int, every: float | str) -> None:
        if isinstance(burst, bool) or not isinstance(burst, int):
            raise TypeError(f"burst must be a number of messages (got {type(burst).__name__})")
        if not 1 <= burst <= 10_000:
            raise ConfigError(f"burst must be from 1 to 10000 messages (got {burst})")
        self.burst = burst
        self.every = parse_seconds(every, name="every")
        if self.every < 1:
            raise ConfigError(f"every must be >= 1 second (got {every!r})")

    def __repr__(self) -> str:
        return f"RateLimit({self.burst}, every={self.every:g})"


class TokenBucket:
    """
    Tokens for messages: *burst* at first, one more each *every* seconds, never more than *burst*.

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


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that is to be told now."""

    alert: Tracked
    status: Literal["firing", "resolved"]


class Announcer:
    """
    Decide what is told.

    An alert is told when it fires, when it becomes graver, again after *repeat*, and when it is
    over, if it was told before. What is held back for the rate is told as soon as there is a token,
    the gravest first, unless it is over by then. The end of an alert needs no token: there is one
    for each alert that was told.

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
        """Messages that were held back; some are told later."""

    def decide(self, judged: Judged, now: float) -> list[Told]:
        """Return what is to be told at *now*, monotonic seconds: what is over first."""
        told = [Told(alert, "resolved") for alert in judged.over if alert.told and self._resolved]
        due = [alert for alert in judged.firing if self._is_due(alert, now)]
        for alert in sorted(due, key=lambda each: (-RANK[each.severity], each.since)):
            bucket = self._buckets.setdefault(alert.rule.name, TokenBucket(self._rate_per_rule))
            # Both are asked, for both fill up by being asked.
            may, all_may = bucket.has(now), self._all.has(now)
            if may and all_may:
                bucket.take()
                self._all.take()
                alert.told_at, alert.told_severity = now, alert.severity
                alert.told += 1
                alert.held = False
                told.append(Told(alert, "firing"))
            elif not alert.held:
                alert.held = True
                self.suppressed += 1
        return told

    def _is_due(self, alert: Tracked, now: float) -> bool:
        if alert.calm_since is not None or not alert.seen:
            return False  # about to be over, or not to be known: no news, and no reminder
        if alert.told_at is None or alert.told_severity is None:
            return True
        if RANK[alert.severity] > RANK[alert.told_severity]:
            return True
        repeat = self._repeat if alert.rule.repeat is None else alert.rule.repeat
        return now - alert.told_at >= repeat
