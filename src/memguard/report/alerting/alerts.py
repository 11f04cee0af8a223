"""`Alerts`: looks at a guard's figures, decides what is worth telling, and has it delivered."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.lifecycle.ticker import Ticker
from memguard.report.alerting.announcer import Announcer, RateLimit
from memguard.report.alerting.composer import Composer
from memguard.report.alerting.delivery import Delivery
from memguard.report.alerting.judge import Judge
from memguard.report.alerting.lane import Patience
from memguard.report.alerting.notice import Notice
from memguard.report.alerting.rule import Rule
from memguard.report.alerting.rules import default_rules
from memguard.report.alerting.sink import LogSink, Sink
from memguard.report.alerting.stats import ActiveAlert, AlertsStatistics
from memguard.report.figures import Guarded, figures
from memguard.units import parse_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_RULES = 100
_EXIT_SECONDS = 2.0
"""For all alerts together, when the interpreter exits."""


class _Subscription(Protocol):
    def close(self) -> None: ...


class Watched(Guarded, Protocol):
    """A `MemoryGuard` as alerts see it."""

    def subscribe(self, callback: Callable[[Any], object]) -> _Subscription:
        """Call *callback* with each pressure alert and each new leak report."""


class Alerts:
    """
    Tell people, through *sinks*, what *rules* find in the figures of *guard*.

    Each alert is told when it fires, when it gets graver, again after *repeat*, and at its end.

    Bounded by: 500 alerts, *queue* messages for each sink; one thread that looks, and one for each
        sink while it delivers.
    Locks: one mutex around starting and stopping, one for each sink's queue; nothing of the host's
        runs under them.
    Keeps alive: *guard*, *rules* and *sinks*.

    In a forked child it is stopped and its queues are empty: call `start` there.

    Args:
        guard: A `MemoryGuard`. What it does not know while it is stopped fires nothing.
        rules: What to tell; by default `default_rules`.
        sinks: Where to tell it: sinks, or functions that take a `Notice`; by default the log.
        interval: Seconds between two evaluations; alerts and leaks of the guard bring one at once.
            No longer than each rule's ``longest_interval``, which depends on its window.
        repeat: Seconds between two messages about an alert that goes on.
        resolved: Tell the end of what was told.
        rate: Messages of all rules together.
        rate_per_rule: Messages of each rule.
        labels: Added to each message: ``{"service": "shop", "env": "production"}``.
        queue: Messages that may wait for each sink; the oldest is dropped for a newer one.
        give_up: Seconds after which an undelivered message is lost.
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
        for option, value, kind in (
            ("resolved", resolved, bool),
            ("name", name, str | None),
            ("rate", rate, RateLimit | None),
            ("rate_per_rule", rate_per_rule, RateLimit | None),
        ):
            if not isinstance(value, kind):
                wanted = getattr(kind, "__name__", kind)
                raise TypeError(f"{option} must be {wanted} (got {type(value).__name__})")
        if on_error not in ("log", "raise"):
            raise ConfigError(f"on_error must be 'log' or 'raise' (got {on_error!r})")
        self.name = guard.name if name is None else name
        self._guard = guard
        self._rules = _checked_rules(default_rules() if rules is None else rules)
        self._interval = parse_seconds(interval, name="interval")
        if not 0.1 <= self._interval <= 86400:
            raise ConfigError(f"interval must be from 0.1 to 86400 seconds (got {interval!r})")
        for rule in self._rules:
            if self._interval > rule.longest_interval:
                raise ConfigError(
                    f"interval must be <= {rule.longest_interval:g} seconds for the rule "
                    f"{rule.name!r}, which else sees too little (got {interval!r}); look more "
                    "often, or give the rule a longer window"
                )
        every = parse_seconds(repeat, name="repeat")
        if every < 1:
            raise ConfigError(f"repeat must be >= 1 second (got {repeat!r})")
        patience = Patience(
            queue=_checked_queue(queue), give_up=parse_seconds(give_up, name="give_up")
        )
        self._announcing: dict[str, Any] = {
            "repeat": every,
            "resolved": resolved,
            "rate": rate or RateLimit(10, every=60),
            "rate_per_rule": rate_per_rule or RateLimit(4, every=300),
        }
        self._composer = Composer(guard.name, labels)
        self._on_error = on_error
        self._timer = timer
        self._failures = Failures("alerts.failed")
        self._delivery = Delivery(
            (LogSink(),) if sinks is None else sinks,
            name=self.name,
            patience=patience,
            failures=self._failures,
        )
        # Kept by a forked child: its guard has it, too.
        self._subscription: _Subscription | None = None
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be stopped and know nothing, as in a forked child. Only sets fields."""
        self._lock = threading.RLock()
        self._turn = threading.Lock()
        self._ticker: Ticker | None = None
        self._announcer = Announcer(**self._announcing)
        self._composer.reset()
        self._delivery.reset()
        self._evaluations = self._notices = 0
        self._cpu = 0.0
        self._judge = Judge(self._rules)  # last: a rule may be the host's, and fail

    # -- life cycle -------------------------------------------------------------------------------

    def start(self) -> Self:
        """
        Start to look, and return the alerts.

        Raises:
            LifecycleError: It is running already.
        """
        with self._lock:
            if self._ticker is not None:
                raise LifecycleError(f"alerts {self.name!r} are already started; call stop() first")
            ticker = self._ticker = Ticker(self, f"memguard-alerts-{self.name}")
        self._delivery.open()
        _started.add(self)
        atexit.unregister(_stop_all)
        atexit.register(_stop_all)
        try:
            if self._subscription is None:
                self._subscription = self._guard.subscribe(self._prompt)
            ticker.start()
        except BaseException:
            self.stop(0.0)
            raise
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """
        Stop to look, have what waits delivered, and end the threads. Idempotent.

        What is not delivered in time is dropped and counted, an attempt that hangs is cut. What
        fires is not told to be over: it may go on.

        Args:
            timeout: Seconds for all of it.

        Returns:
            True when all threads have ended; a function of yours that hangs cannot be ended.
        """
        ends_at = time.monotonic() + timeout
        with self._lock:
            ticker, self._ticker = self._ticker, None
            subscription, self._subscription = self._subscription, None
        _started.discard(self)
        if subscription is not None:
            subscription.close()
        ended = ticker.stop(timeout) if ticker is not None else True
        delivered, dropped = self._delivery.stop(max(0.0, ends_at - time.monotonic()))
        if dropped:
            log.event(logging.WARNING, "alerts.dropped_at_stop", alerts=self.name, dropped=dropped)
        return ended and delivered

    def close(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all messages are delivered or given up, *timeout* at most; True when so."""
        return self._delivery.wait_empty(timeout)

    # -- looking ----------------------------------------------------------------------------------

    def _prompt(self, _: object) -> None:
        """Look soon: the guard has something to tell. Runs in its threads, and only asks."""
        ticker = self._ticker
        if ticker is not None:
            ticker.request()

    def look_on_request(self) -> None:
        """Look now: what the guard's own alerts ask for."""
        self.tick()

    def tick(self) -> float:
        """
        Look at the guard's figures, and have told what is to be told.

        Raises nothing but the error of a rule, if so ordered. Thread-safe; a tick during another
        one does nothing.

        Returns:
            Seconds until the next look is due.

        Cost: the figures, some ten µs for the rules, and a few ms each time that the rule for
        growth has a new point. Delivery is left to other threads.
        """
        if not self._turn.acquire(blocking=False):
            return self._interval
        began = time.thread_time()
        failed: list[tuple[str, BaseException]] = []
        try:
            failed = self._tick()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("figures", error)
        finally:
            self._cpu += time.thread_time() - began
            self._turn.release()
        for rule, reason in failed:
            self._failures.add(f"rule {rule}", reason)
        if failed and self._on_error == "raise":
            raise failed[0][1]
        return self._interval

    def _tick(self) -> list[tuple[str, BaseException]]:
        found = figures(self._guard)
        now = self._timer()
        judged = self._judge.evaluate(found, now)
        self._evaluations += 1
        for told in self._announcer.decide(judged, now):
            self._send(self._composer.notice(told, found.time))
        self._delivery.nudge()
        return judged.errors

    def send_test(self) -> None:
        """
        Send a message with the status ``"test"`` to every sink: do they work?

        Then ``flush``, and see `statistics`.

        Raises:
            LifecycleError: It is not running.
        """
        if self._ticker is None:
            raise LifecycleError(f"alerts {self.name!r} are not started; call start() first")
        self._send(self._composer.test(time.time()))

    def _send(self, notice: Notice) -> None:
        self._notices += 1
        self._delivery.send(notice)

    # -- what it knows ----------------------------------------------------------------------------

    @property
    def active(self) -> tuple[ActiveAlert, ...]:
        """Alerts that are pending or fire, oldest first. Thread-safe."""
        return tuple(
            ActiveAlert(
                fingerprint=self._composer.fingerprint(alert.rule.name, alert.key),
                rule=alert.rule.name,
                severity=alert.severity,
                summary=alert.summary,
                firing=alert.fires,
                started_at=alert.since_wall,
                told=alert.told,
            )
            for alert in self._judge.tracked
        )

    def statistics(self) -> AlertsStatistics:
        """Return what was looked at, told and lost. Thread-safe."""
        tracked = self._judge.tracked
        sinks = self._delivery.statistics()
        firing = sum(alert.fires for alert in tracked)
        return AlertsStatistics(
            name=self.name,
            running=self._ticker is not None,
            evaluations=self._evaluations,
            pending=len(tracked) - firing,
            firing=firing,
            left_out=self._judge.left_out,
            notices=self._notices,
            suppressed=self._announcer.suppressed,
            sent=sum(sink.sent for sink in sinks),
            retried=sum(sink.retried for sink in sinks),
            failed=sum(sink.failed for sink in sinks),
            dropped=sum(sink.dropped for sink in sinks),
            queued=sum(sink.queued for sink in sinks),
            sinks=sinks,
            cpu_seconds=self._cpu,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )


def _checked_queue(queue: int) -> int:
    if isinstance(queue, bool) or not isinstance(queue, int):
        raise TypeError(f"queue must be a number of messages (got {type(queue).__name__})")
    if not 1 <= queue <= 10_000:
        raise ConfigError(f"queue must be from 1 to 10000 messages (got {queue})")
    return queue


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


_started: weakref.WeakSet[Alerts] = weakref.WeakSet()


def _stop_all() -> None:
    ends_at = time.monotonic() + _EXIT_SECONDS
    for alerts in list(_started):
        alerts.stop(max(0.0, ends_at - time.monotonic()))
