"""
A guard in OpenTelemetry: metrics through observable instruments, alerts and leaks as events.

Needs ``opentelemetry-api`` (the extra ``otel`` brings the SDK as well); which provider, reader and
exporter are used and when they send is the program's choice.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from memguard.bounded.options import check_choice, check_flag
from memguard.errors import ConfigError, LifecycleError
from memguard.extras import missing
from memguard.leaks.report import LeakReport
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.service import Service
from memguard.lifecycle.ticker import Ticker
from memguard.relief.records import Alert
from memguard.report.render.words import printable
from memguard.report.state import Guarded, GuardState, guard_state

try:
    from memguard.report.metrics.opentelemetry.events import emit, of_alert, of_report
    from memguard.report.metrics.opentelemetry.instruments import (
        Instruments,
        ProcessMetrics,
        exports_process_metrics,
        providers,
    )
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("opentelemetry"):
        raise
    raise missing("opentelemetry-api", "otel") from error


__all__ = ["ProcessMetrics", "Telemetry", "TelemetryStatistics"]
MOST_WAITING = 100
"""Events that wait to be emitted; the oldest are dropped, and counted."""
_IDLE_SECONDS = 60.0


class _Subscription(Protocol):
    def close(self) -> None: ...


class Watched(Guarded, Protocol):
    """A `MemoryGuard` as telemetry sees it."""

    def subscribe(self, callback: Callable[[Alert | LeakReport], object]) -> _Subscription:
        """Call *callback* with every alert and each new leak report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryStatistics:
    """What a `Telemetry` did so far. Counts."""

    running: bool
    guard: str | None
    """The value of ``memguard.guard``; None while it is not running."""
    collections: int
    """Collections of the meter provider, for all guards together."""
    process_metrics: Literal["on", "off"]
    """Whether ``process.*`` and ``cpython.*`` are exported."""
    process_metrics_reason: str
    """Why."""
    containers_named: int
    """Containers with a name of their own; all others are one, ``"other"``."""
    events: int
    """Events handed to the logger provider."""
    events_waiting: int
    events_dropped: int
    """Events dropped because the queue was full, or because nothing could export them any more."""
    errors: int
    """Failures caught, of every kind; each kind was logged once."""
    errors_by_kind: tuple[tuple[str, int], ...]


class Telemetry(Service):
    """
    Export a guard to OpenTelemetry, from `start` to `close`.

    Metrics are gathered when a reader collects them, once for each collection; events are emitted
    by a thread of its own, so that no exporter, however slow or dead, holds up the guard.

    OpenTelemetry has no way to take an instrument back: after `close` its callbacks return nothing
    and refer to nothing of this guard. It also keeps every combination of attributes, so these come
    from closed sets: 16 names of guards, 50 of containers, and ``"other"``.

    Bounded by: one thread, 100 events that wait, 50 kinds of errors.
    Locks: none of its own that any thread waits for.
    Keeps alive: the meter and logger provider; the guard not: when that is gone, it closes itself.

    In a forked child it is stopped: call `start` there, after the guard's.

    Example:
        >>> from memguard import MemoryGuard
        >>> with MemoryGuard() as guard, Telemetry(guard) as telemetry:
        ...     telemetry.statistics().guard
        'memguard'

    Args:
        guard: The `MemoryGuard`.
        meter_provider: None is the global one, even if that is set later.
        logger_provider: None is the global one at the time of an event.
        metrics: Export metrics.
        events: Emit alerts and leak reports as log records with an event name.
        process_metrics: ``"on"`` and ``"off"``, or ``"auto"``: ``process.memory.*`` and
            ``cpython.gc.*`` are exported as long as
            ``opentelemetry.instrumentation.system_metrics``, which exports them too, is not
            loaded. This is checked at each collection.

    Raises:
        MissingExtraError: On import, if OpenTelemetry is not installed.
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    def __init__(
        self,
        guard: Watched,
        *,
        meter_provider: Any | None = None,
        logger_provider: Any | None = None,
        metrics: bool = True,
        events: bool = True,
        process_metrics: ProcessMetrics = "auto",
    ) -> None:
        for method in ("status", "subscribe"):
            if not callable(getattr(guard, method, None)):
                raise TypeError(f"guard must be a MemoryGuard (got {type(guard).__name__})")
        self._metrics, self._events = check_flag(metrics, "metrics"), check_flag(events, "events")
        for option, provider, method in (
            ("meter_provider", meter_provider, "get_meter"),
            ("logger_provider", logger_provider, "get_logger"),
        ):
            if provider is not None and not callable(getattr(provider, method, None)):
                raise TypeError(f"{option} must have {method}() (got {type(provider).__name__})")
        self.process_metrics: ProcessMetrics = check_choice(
            process_metrics, ("auto", "on", "off"), "process_metrics"
        )
        if not metrics and not events:
            raise ConfigError("metrics and events are both False: there is nothing to export")
        self._guard = weakref.ref(guard)
        self._name = printable(guard.name, longest=100)
        self._meter_provider, self._logger_provider = meter_provider, logger_provider
        self._instruments: Instruments | None = None
        self._subscription: _Subscription | None = None
        self._sent = self._dropped = 0
        self._failures = Failures("telemetry.failed")
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Be stopped, as in a forked child."""
        self._ticker: Ticker | None = None
        self._label: str | None = None
        self._thread = 0
        self._emitting = False
        self._waiting: deque[Alert | LeakReport] = deque(maxlen=MOST_WAITING)

    # -- life cycle -------------------------------------------------------------------------------

    def start(self) -> Self:
        """
        Begin to export, and return the telemetry.

        Raises:
            LifecycleError: It was started already, or its guard is gone.
            CapacityError: The meter provider has seen 16 guards already.
            Exception: What the meter provider raises if it makes no instruments.
        """
        check()
        guard = self._guard()
        if guard is None:
            raise LifecycleError("the guard is gone; make a Telemetry for one that is kept")
        if self._ticker is not None:
            raise LifecycleError("this Telemetry is already started; call close() first")
        label = self._name
        if self._metrics:
            self._instruments = providers.of(self._meter_provider)
            label = self._instruments.add(self, self._name)
        self._label = label
        self._ticker = Ticker(self, f"memguard-telemetry-{self._name}")
        try:
            if self._events:
                if self._subscription is not None:
                    self._subscription.close()  # of before a fork
                self._subscription = guard.subscribe(self._enqueue)
            self._ticker.start()
        except BaseException:
            self.close()
            raise
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """
        Stop exporting; queued events are emitted first. Idempotent.

        Args:
            timeout: Seconds to wait for that, and for the thread.

        Returns:
            True when the thread has ended; False when an exporter still holds it.
        """
        check()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        if self._instruments is not None:
            self._instruments.remove(self)
        ticker, self._ticker = self._ticker, None
        self._label = None
        if ticker is None:
            return True
        deadline = time.monotonic() + timeout
        self._wait_for_events(ticker, deadline)
        ended = ticker.stop(max(0.0, deadline - time.monotonic()))
        self._dropped += len(self._waiting)
        self._waiting.clear()
        self._failures.log()
        return ended

    def _wait_for_events(self, ticker: Ticker, deadline: float) -> None:
        if threading.get_ident() == self._thread:
            self._drain()
            return
        ticker.request()  # by its own thread: an exporter may hold it for long
        while (self._waiting or self._emitting) and ticker.alive and time.monotonic() < deadline:
            time.sleep(0.01)

    # -- metrics: called by the instruments -------------------------------------------------------

    def look(self) -> GuardState | None:
        """Return the guard's state; None when it is gone."""
        guard = self._guard()
        return None if guard is None else guard_state(guard)

    def fail(self, what: str, error: BaseException) -> None:
        """Count that *what* failed; it is logged later, by the thread."""
        self._failures.count_only(what, error)

    # -- events -----------------------------------------------------------------------------------

    def _enqueue(self, thing: Alert | LeakReport) -> None:
        """Called in the guard's threads, which must not wait."""
        ticker = self._ticker
        if ticker is None:
            return
        if len(self._waiting) == MOST_WAITING:
            self._dropped += 1
        self._waiting.append(thing)
        ticker.request()

    def tick(self) -> float:
        """Emit what waits; end when the guard is gone. Returns seconds until the next tick."""
        self.look_on_request()
        if self._guard() is None:
            self.close()
        return _IDLE_SECONDS

    def look_on_request(self) -> None:
        """Emit what waits, and log what failed. Only the thread calls it."""
        self._thread = threading.get_ident()
        self._drain()
        self._failures.log()

    def _drain(self) -> None:
        self._emitting = True
        try:
            while True:
                try:
                    thing = self._waiting.popleft()
                except IndexError:
                    return
                self._emit(thing)
        finally:
            self._emitting = False

    def _emit(self, thing: Alert | LeakReport) -> None:
        try:
            made = of_alert if isinstance(thing, Alert) else of_report
            emit(made(thing, self._label or self._name), self._logger_provider)  # type: ignore[arg-type] # reason: by its type
        except Exception as error:  # noqa: BLE001 - reason: an exporter's failure is not the guard's
            self._dropped += 1
            self.fail("event", error)
        else:
            self._sent += 1

    # -- what it knows ----------------------------------------------------------------------------

    def statistics(self) -> TelemetryStatistics:
        """Return what was done so far. Thread-safe."""
        exported, why = exports_process_metrics(self.process_metrics)
        if not self._metrics:
            exported, why = False, "metrics=False was given"
        instruments = self._instruments
        return TelemetryStatistics(
            running=self._ticker is not None,
            guard=self._label,
            collections=0 if instruments is None else instruments.cycles,
            process_metrics="on" if exported else "off",
            process_metrics_reason=why,
            containers_named=0 if instruments is None else len(instruments.containers),
            events=self._sent,
            events_waiting=len(self._waiting),
            events_dropped=self._dropped,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )
