"""`Alerts`: evaluate rules over a guard's state, and have notices delivered."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from memguard import log
from memguard.bounded.options import (
    ON_ERROR,
    check_choice,
    check_flag,
    check_instance,
    check_int,
    check_seconds,
)
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle import locks
from memguard.lifecycle.at_exit import not_at_exit, stop_at_exit
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.service import Service
from memguard.lifecycle.ticker import Ticker
from memguard.lifecycle.turn import Turn
from memguard.report.alerting.delivery import Delivery, RetryPolicy, SinkStatistics
from memguard.report.alerting.notice import Notice, Severity
from memguard.report.alerting.notice_policy import NoticeFactory, NoticePolicy, RateLimit
from memguard.report.alerting.rules import Rule, default_rules
from memguard.report.alerting.sink import LogSink, Sink
from memguard.report.alerting.tracker import AlertTracker
from memguard.report.state import Guarded, guard_state
from memguard.units import parse_seconds

MOST_RULES = 100
_EXIT_SECONDS = 2.0
_SUMMED = ("sent", "retried", "failed", "dropped", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveAlert:
    """An alert that is pending or fires."""

    fingerprint: str
    rule: str
    severity: Severity
    summary: str
    firing: bool
    """False while it has not lasted long enough."""
    started_at: float
    """When its condition began, seconds since the epoch."""
    notices: int
    """Notices about it so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsStatistics:
    """What was evaluated, sent and lost. Counts and seconds."""

    name: str
    running: bool
    evaluations: int
    pending: int
    firing: int
    left_out: int
    """Conditions beyond the 500 alerts that are tracked."""
    notices: int
    """Notices made; each goes to every sink that wants it."""
    suppressed: int
    """Notices held back for the rate; some were sent later."""
    sent: int
    """This and the next four: all sinks together."""
    retried: int
    failed: int
    dropped: int
    queued: int
    sinks: tuple[SinkStatistics, ...]
    cpu_seconds: float
    """Processor time of all evaluations."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]


class _Subscription(Protocol):
    def close(self) -> None: ...


class Watched(Guarded, Protocol):
    """A `MemoryGuard` as alerts see it."""

    def subscribe(self, callback: Callable[[Any], object]) -> _Subscription:
        """Call *callback* with each pressure alert and each new leak report."""


class Alerts(Service):
    """
    Evaluate *rules* over the state of *guard*, and notify people through *sinks*.

    There is a notice when an alert fires, when it gets graver, again after *repeat*, and when it is
    resolved.

    Bounded by: 500 alerts, *queue* notices for each sink; one thread that evaluates, and one for
        each sink while it delivers.
    Locks: one mutex around starting and stopping, one for each sink's queue; nothing of the host's
        runs under them.
    Keeps alive: *guard*, *rules* and *sinks*.

    In a forked child it is stopped and its queues are empty: call `start` there.

    Args:
        guard: A `MemoryGuard`. What it does not know while it is stopped fires nothing.
        rules: What is worth an alert; by default `default_rules`.
        sinks: Where notices go: sinks, or functions that take a `Notice`; by default the log.
        interval: Seconds between two evaluations; alerts and leaks of the guard bring one at once.
            No longer than each rule's ``longest_interval``, which depends on its window.
        repeat: Seconds between two notices about an alert that still fires.
        resolved: Send a notice when an alert that was sent is resolved.
        rate: Notices of all rules together.
        rate_per_rule: Notices of each rule.
        labels: Added to each notice: ``{"service": "shop", "env": "production"}``.
        queue: Notices that may wait for each sink; the oldest is dropped for a newer one.
        give_up: Seconds after which an undelivered notice is lost.
        on_error: What the error of a rule does: ``"log"``, or ``"raise"`` from `tick`.
        name: For logs and threads; by default the guard's.
        timer: Monotonic seconds.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        guard: Watched,
        *,
        rules: Sequence[Rule] | None = None,
        sinks: Sequence[Sink | Callable[[Notice], object]] | None = None,
        interval: float | str = 10.0,
        repeat: float | str = "4h",
        resolved: bool = True,
        rate: RateLimit | None = None,
        rate_per_rule: RateLimit | None = None,
        labels: Mapping[str, str] | None = None,
        queue: int = 100,
        give_up: float | str = "1h",
        on_error: Literal["log", "raise"] = "log",
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if not callable(getattr(guard, "subscribe", None)):
            raise TypeError(f"guard must be a MemoryGuard (got {type(guard).__name__})")
        check_flag(resolved, "resolved")
        for option, limit in (("rate", rate), ("rate_per_rule", rate_per_rule)):
            check_instance(limit, RateLimit, option, optional=True)
        self._on_error = check_choice(on_error, ON_ERROR, "on_error")
        self.name = check_instance(name, str, "name", optional=True) or guard.name
        self._guard = guard
        self._rules = _checked_rules(default_rules() if rules is None else rules)
        self._interval = check_seconds(interval, "interval", 0.1, 86400)
        for rule in self._rules:
            if self._interval > rule.longest_interval:
                raise ConfigError(
                    f"interval must be <= {rule.longest_interval:g} seconds for the rule "
                    f"{rule.name!r}, which else sees too little (got {interval!r}); evaluate more "
                    "often, or give the rule a longer window"
                )
        self._policy_options: dict[str, Any] = {
            "repeat": check_seconds(repeat, "repeat", 1),
            "resolved": resolved,
            "rate": rate or RateLimit(10, every=60),
            "rate_per_rule": rate_per_rule or RateLimit(4, every=300),
        }
        self._factory = NoticeFactory(guard.name, labels)
        self._timer = timer
        self._failures = Failures("alerts.failed")
        self._delivery = Delivery(
            (LogSink(),) if sinks is None else sinks,
            name=self.name,
            policy=RetryPolicy(
                queue=check_int(queue, "queue", 1, 10_000),
                give_up=parse_seconds(give_up, name="give_up"),
            ),
            failures=self._failures,
        )
        # Kept by a forked child: its guard has it, too.
        self._subscription: _Subscription | None = None
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be stopped and know nothing, as in a forked child. Only sets fields."""
        self._lock = locks.RLock()
        self._turn = Turn()
        self._ticker: Ticker | None = None
        self._policy = NoticePolicy(**self._policy_options)
        self._factory.reset()
        self._delivery.reset()
        self._evaluations = self._notices = 0
        self._cpu = 0.0
        self._tracker = AlertTracker(self._rules)  # last: a rule may be the host's, and fail

    # -- life cycle -------------------------------------------------------------------------------

    def start(self) -> Self:
        """
        Start to evaluate, and return the alerts.

        Raises:
            LifecycleError: It is running already.
        """
        check()
        with self._lock:
            if self._ticker is not None:
                raise LifecycleError(f"alerts {self.name!r} are already started; call stop() first")
            ticker = self._ticker = Ticker(self, f"memguard-alerts-{self.name}")
        self._delivery.open()
        stop_at_exit(self, _EXIT_SECONDS)  # before the ticker, which is therefore stopped first
        try:
            if self._subscription is None:
                self._subscription = self._guard.subscribe(self._request)
            ticker.start()
        except BaseException:
            self.stop(0.0)
            raise
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """
        Stop to evaluate, have what waits delivered, and end the threads. Idempotent.

        What is not delivered in time is dropped and counted, an attempt that hangs is cut. What
        fires is not resolved: it may continue.

        Args:
            timeout: Seconds for all of it.

        Returns:
            True when all threads have ended; a function of yours that hangs cannot be ended.
        """
        check()
        ends_at = time.monotonic() + timeout
        with self._lock:
            ticker, self._ticker = self._ticker, None
            subscription, self._subscription = self._subscription, None
        not_at_exit(self)
        if subscription is not None:
            subscription.close()
        ended = ticker.stop(timeout) if ticker is not None else True
        delivered, dropped = self._delivery.stop(max(0.0, ends_at - time.monotonic()))
        if dropped:
            log.event(logging.WARNING, "alerts.dropped_at_stop", alerts=self.name, dropped=dropped)
        return ended and delivered

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all notices are delivered or given up, *timeout* at most; True when so."""
        return self._delivery.wait_empty(timeout)

    # -- evaluating -------------------------------------------------------------------------------

    def _request(self, _: object) -> None:
        """Evaluate soon: the guard has an alert or a report. Runs in its threads, and only asks."""
        ticker = self._ticker
        if ticker is not None:
            ticker.request()

    def look_on_request(self) -> None:
        """Evaluate now: what the guard's own alerts ask for."""
        self.tick()

    def tick(self) -> float:
        """
        Evaluate the rules once, and send what needs a notice.

        Raises nothing but the error of a rule, with ``on_error="raise"``. Thread-safe; a tick
        during another one does nothing.

        Returns:
            Seconds until the next evaluation is due.

        Cost: the guard's state, some ten µs for the rules, and a few ms each time that the rule for
        growth has a new point. Delivery is left to other threads.
        """
        failed: list[tuple[str, BaseException]] = self._turn.run(self._evaluate, busy=[])
        for rule, reason in failed:
            self._failures.add(f"rule {rule}", reason)
        if failed and self._on_error == "raise":
            raise failed[0][1]
        return self._interval

    def _evaluate(self) -> list[tuple[str, BaseException]]:
        began = time.thread_time()
        try:
            state = guard_state(self._guard)
            now = self._timer()
            found = self._tracker.evaluate(state, now)
            self._evaluations += 1
            for alert, status in self._policy.decide(found, now):
                self._send(self._factory.notice(alert, status, state.time))
            self._delivery.start_threads()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("state", error)
            return []
        finally:
            self._cpu += time.thread_time() - began
        return found.errors

    def send_test(self) -> None:
        """
        Send a notice with the status ``"test"`` to every sink: do they work?

        Then ``flush``, and see `statistics`.

        Raises:
            LifecycleError: It is not running.
        """
        if self._ticker is None:
            raise LifecycleError(f"alerts {self.name!r} are not started; call start() first")
        self._send(self._factory.test(time.time()))

    def _send(self, notice: Notice) -> None:
        self._notices += 1
        self._delivery.send(notice)

    # -- what it knows ----------------------------------------------------------------------------

    @property
    def active(self) -> tuple[ActiveAlert, ...]:
        """Alerts that are pending or fire, oldest first. Thread-safe."""
        return tuple(
            ActiveAlert(
                fingerprint=self._factory.fingerprint(alert.rule.name, alert.key),
                rule=alert.rule.name,
                severity=alert.severity,
                summary=alert.summary,
                firing=alert.fires,
                started_at=alert.since_wall,
                notices=alert.notices,
            )
            for alert in self._tracker.alerts
        )

    def statistics(self) -> AlertsStatistics:
        """Return what was evaluated, sent and lost. Thread-safe."""
        alerts = self._tracker.alerts
        sinks = self._delivery.statistics()
        firing = sum(alert.fires for alert in alerts)
        return AlertsStatistics(
            name=self.name,
            running=self._ticker is not None,
            evaluations=self._evaluations,
            pending=len(alerts) - firing,
            firing=firing,
            left_out=self._tracker.left_out,
            notices=self._notices,
            suppressed=self._policy.suppressed,
            **{name: sum(getattr(sink, name) for sink in sinks) for name in _SUMMED},
            sinks=sinks,
            cpu_seconds=self._cpu,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )


def _checked_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    given = tuple(rules)
    for rule in given:
        if not isinstance(rule, Rule):
            raise TypeError(f"rules must be rules, such as UsedAbove() (got {type(rule).__name__})")
    names = [rule.name for rule in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"two rules are called {twice[0]!r}; give one of them another name=")
    if len(given) > MOST_RULES:
        raise ConfigError(f"rules must be {MOST_RULES} at most (got {len(given)})")
    return given
