"""
PressureMonitor: read how full memory is, publish the level, and start relief in time.

How often it looks depends on what is left: no longer between two looks than it takes to fill half
of it at a gigabyte a second, and up to *interval* if much is left or nothing has moved.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Self

from memguard import log
from memguard.bounded.options import (
    ON_ERROR,
    check_callable,
    check_choice,
    check_flag,
    check_instance,
    check_seconds,
)
from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.queues import drain
from memguard.lifecycle.service import Service
from memguard.lifecycle.ticker import Ticker
from memguard.lifecycle.turn import Turn
from memguard.observe import allocator
from memguard.observe.readings import Reading, read_memory
from memguard.relief.gauge import Gauge, Glance, Look, no_headroom, no_limit
from memguard.relief.levels import Judgement, Level, LevelRules, Levels
from memguard.relief.pace import Pace
from memguard.relief.records import Alert, AlertKind, PressureState, PressureStatistics
from memguard.relief.resource import MEMORY
from memguard.relief.response import Response
from memguard.relief.steps import Relief
from memguard.units import parse_bytes, parse_seconds

__all__ = ["Alert", "Level", "PressureMonitor", "PressureState", "PressureStatistics"]


MOST_ALERTS = 10
_MOST_CALLS = 16
_EVENTS = {
    "level": "pressure.changed",
    "ineffective": "relief.ineffective",
    "recycle": "relief.recycle_requested",
}


class AlertLog:
    """
    The last ten alerts of a monitor: logged, and handed to the host's callbacks.

    Bounded by: ``MOST_ALERTS`` alerts.
    Locks: none; only a monitor's tick adds to it.
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
        self._latest: tuple[Alert, ...] = ()  # replaced whole: others read it meanwhile
        self._error: Exception | None = None
        self._raised: Counter[AlertKind] = Counter()

    @property
    def latest(self) -> tuple[Alert, ...]:
        """The last ten alerts, oldest first. Thread-safe."""
        return self._latest

    def counts(self) -> dict[str, Any]:
        """Return the counts of `PressureStatistics`, all of one moment. Thread-safe."""
        by_kind = self._raised.copy()
        count = by_kind.total()
        return {
            "level_changes": by_kind["level"],
            "alerts": count,
            "alerts_by_kind": tuple(sorted(by_kind.items())),
            # Not by what is in `latest`: that may be one ahead of the count, or one behind.
            "alerts_dropped": max(0, count - MOST_ALERTS),
        }

    def add(self, alert: Alert) -> None:
        """Log *alert*, keep it, and call the callbacks."""
        self._latest = (*self._latest, alert)[-MOST_ALERTS:]
        self._raised[alert.kind] += 1
        worse = alert.kind != "level" or alert.level in ("elevated", "critical")
        log.event(
            log.WARNING if worse else log.INFO,
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
        """Call *callback*, if there is one; its failure is counted and kept."""
        if callback is None:
            return
        try:
            callback(argument)
        except Exception as error:  # noqa: BLE001 - reason: the host's code; counted, and raised if configured
            self._failures.add("callback", error)
            if self._error is None:
                self._error = error

    def take_error(self) -> Exception | None:
        """Return the first error of a callback since the last time, and forget it."""
        error, self._error = self._error, None
        return error


def _readings(
    read: Callable[[], Reading | int], timer: Callable[[], float]
) -> Callable[[], Reading]:
    """Return what makes a reading of what *read* returns."""
    check_callable(read, "read", optional=False)

    def taken() -> Reading:
        found = read()
        return found if isinstance(found, Reading) else Reading(at=timer(), anon=int(found))

    return taken


def _check_children(children: bool, limit: int | None) -> bool:  # noqa: FBT001 - reason: an option
    """
    Return *children*.

    Raises:
        TypeError: It is neither True nor False.
        ConfigError: There is no limit to count them against.
    """
    if check_flag(children, "children") and limit is None:
        raise ConfigError(
            "children=True needs limit=, in bytes: a control group counts them anyway"
        )
    return children


def _check_resource(
    resource: str | None, limit: int | None, *, is_own: bool, gauge: Gauge | None
) -> str:
    """
    Return what the readings are of.

    Raises:
        TypeError: *resource* is no string.
        ConfigError: It is not memory, and has no limit or no reading of its own.
    """
    if resource is None:
        resource = "own readings" if is_own and gauge is None else MEMORY
    check_instance(resource, str, "resource")
    if resource == MEMORY:
        return resource
    if limit is None:
        raise ConfigError(f"resource {resource!r} needs limit=, in bytes: the system knows of none")
    if not is_own and gauge is None:
        raise ConfigError(f"resource {resource!r} needs read=, else the memory would be read")
    return resource


class PressureMonitor(Service):
    """
    Watch how near this process is to its limit, and free memory before the kernel kills it.

    Bounded by: the samples of five seconds, ten alerts, one thread.
    Locks: none that any thread waits for: a tick during another one does nothing. Callbacks may
        call anything.
    Keeps alive: the callbacks; containers not at all.

    Example:
        >>> monitor = PressureMonitor(limit="2GiB", elevated=0.7)
        >>> with monitor:
        ...     level = monitor.level

    Args:
        limit: ``"auto"`` for the bounds of control groups, rlimits and the host; or a bound of your
            own on private and shared memory, in bytes, which is obeyed beside those. Another
            resource has no bound but this one.
        elevated: Used share of the limit from which relief frees memory.
        critical: Used share from which relief frees everything it can.
        hysteresis: Relief aims this much below *elevated*; a level is left half way there.
        hold_off: Seconds that it must have been calm before a level is left.
        interval: Most seconds between two looks, and between two full ones; three times as long
            while nothing moves.
        relief: What frees memory; None only watches.
        on_level: Called as ``on_level(alert)`` after each change of the level.
        on_alert: Called as ``on_alert(alert)`` with every alert: level changes, relief without
            effect, and the request to be recycled.
        on_reading: Called with each full reading, for a history.
        on_error: What a failing callback does: ``"log"``, or ``"raise"`` from `tick`.
        reserved: Gives the bytes that work was promised and has not taken yet: caches that were
            made smaller do not grow into them.
        rules: All thresholds at once, instead of the four above.
        name: For logs and the thread.
        timer: Monotonic seconds.
        read: Takes a reading, or returns the bytes in use: of another resource, or of the memory of
            a platform of your own.
        gauge: Looks; for tests and platforms of your own.
        resource: What *read* is of: ``"cuda:0"``, ``"quota"``, any name. For a resource other than
            ``"memory"`` no cache or pool is emptied: *relief* only calls its callbacks. It is
            ``"memory"`` unless *read* is given without *gauge*, and then ``"own readings"``.
        children: Count the memory of child processes against *limit*, too: those of
            multiprocessing, DataLoader, joblib. The bounds of a control group count them anyway.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range; a resource has no *limit* or no *read*.

    Example:
        >>> used = {"bytes": 10 << 30}  # of a device, by torch.cuda.mem_get_info, or NVML
        >>> device = PressureMonitor("80GiB", read=lambda: used["bytes"], resource="cuda:0")
        >>> _ = device.tick()  # or start(), for a thread that looks
        >>> device.pressure().used == 10 << 30
        True
    """

    def __init__(
        self,
        limit: int | str = "auto",
        *,
        elevated: float = 0.75,
        critical: float = 0.90,
        hysteresis: float = 0.05,
        hold_off: float | str = 10.0,
        interval: float | str = 1.0,
        relief: Relief | None = None,
        on_level: Callable[[Alert], object] | None = None,
        on_alert: Callable[[Alert], object] | None = None,
        on_reading: Callable[[Reading], object] | None = None,
        on_error: Literal["log", "raise"] = "log",
        reserved: Callable[[], int] | None = None,
        rules: LevelRules | None = None,
        name: str = "memguard",
        timer: Callable[[], float] = time.monotonic,
        read: Callable[[], Reading | int] | None = None,
        gauge: Gauge | None = None,
        resource: str | None = None,
        children: bool = False,
    ) -> None:
        self._rules = rules or LevelRules(
            elevated=elevated,
            critical=critical,
            hysteresis=hysteresis,
            hold_off=parse_seconds(hold_off, name="hold_off"),
        )
        self._interval = check_seconds(interval, "interval", 0.01, 3600)
        own = None if limit == "auto" else parse_bytes(limit, name="limit")
        if own == 0:
            raise ConfigError("limit must be > 0 bytes or 'auto' (got 0)")
        self.name: str = check_instance(name, str, "name")
        self.resource: str = _check_resource(resource, own, is_own=read is not None, gauge=gauge)
        self.relief: Relief | None = check_instance(relief, Relief, "relief", optional=True)
        self._on_level = check_callable(on_level, "on_level")
        self._on_alert = check_callable(on_alert, "on_alert")
        self._on_reading = check_callable(on_reading, "on_reading")
        self._on_error = check_choice(on_error, ON_ERROR, "on_error")
        self._reserved = check_callable(reserved, "reserved")
        self._timer = timer
        self._given_gauge = gauge
        taken = None if read is None else _readings(read, timer)
        self._gauge_options: dict[str, Any] = {
            "limit": own,
            "interval": self._interval,
            "timer": timer,
            "read": taken or read_memory,
            "glance": taken,
            "children": _check_children(children, own),
            **({} if self.resource == MEMORY else {"bounds": no_limit, "headroom": no_headroom}),
        }
        self._failures = Failures("pressure.failed")
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Enter the state of one that was never started. Only sets fields: runs after fork."""
        self._turn = Turn()
        self._glancing = Turn()
        self._glance: Callable[[], Reading] | None = self._gauge_options["glance"]
        if self._glance is None and self._given_gauge is None:  # else it may see another process
            self._glance = Glance(timer=self._timer)
        self._calls: deque[Callable[[], object]] = deque(maxlen=_MOST_CALLS)
        self._ticker: Ticker | None = None
        self._levels = Levels(self._rules)
        self._gauge = self._given_gauge or Gauge(**self._gauge_options)
        self._pace = Pace(self._interval)
        self._state = PressureState()
        self._alerts = AlertLog(
            self.name, self._failures, on_level=self._on_level, on_alert=self._on_alert
        )
        self._response: Response | None = None
        if self.relief is not None:
            self._response = Response(
                self.relief,
                self._rules,
                resource=self.resource,
                timer=self._timer,
                look_now=self._gauge.look_now,
            )
        self._ticks = 0
        self._cpu = 0.0
        self._stop_requested = False
        self._first: Look | None = None

    def start(self) -> Self:
        """
        Start the thread that looks, and return the monitor.

        Cost: a millisecond, for the first look at every bound, in the thread of the caller.

        Raises:
            LifecycleError: It is running already.
            RuntimeError: No thread can be started.
        """
        check()
        if self._ticker is not None:
            raise LifecycleError(f"monitor {self.name!r} is already started; call stop() first")
        allocator.prepare()
        self._stop_requested = False
        self._turn.run(self._find_bounds, busy=None)
        self._ticker = Ticker(self, f"memguard-pressure-{self.name}").start()
        return self

    def _find_bounds(self) -> None:
        """
        Read every bound while the host is still waiting for us.

        It takes a dozen small files. Among busy threads each of them waits for its turn, and memory
        may be full before the last has been read; one glance after this does with one file.
        """
        try:
            self._first = self._gauge.look()
        except Exception as error:  # noqa: BLE001 - reason: law 2; the thread will try again
            self._failures.add("tick", error)

    def stop(self, timeout: float = 5.0) -> bool:
        """
        End the thread and restore the bounds of caches. Idempotent.

        Args:
            timeout: Seconds to wait for a tick that is under way, and for a callback of relief.

        Returns:
            True when the threads have ended.
        """
        check()
        ticker, self._ticker = self._ticker, None
        self._stop_requested = True  # a tick under way restores what it still lowers
        ended = ticker.stop(timeout) if ticker is not None else True
        if self.relief is not None:
            ended = self.relief.stop_callbacks(timeout) and ended
            self.relief.restore()
        self._gauge.close()
        self._calls.clear()
        if isinstance(self._glance, Glance):
            self._glancing.run(self._glance.close, busy=None, timeout=0.1)
        return ended

    @property
    def level(self) -> Level:
        """``"ok"``, ``"elevated"``, ``"critical"`` or ``"insufficient_data"``, at the last look."""
        check()
        return self._state.level

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The last ten alerts, oldest first."""
        return self._alerts.latest

    def pressure(self) -> PressureState:
        """Return the level, the reasons for it and the numbers behind it, as of the last look."""
        check()
        return self._state

    @property
    def trouble(self) -> str | None:
        """What the last full look could not see, and what that means; None if nothing."""
        return self._gauge.trouble

    def statistics(self) -> PressureStatistics:
        """Return what was done so far and what it cost. Thread-safe."""
        check()
        return PressureStatistics(
            name=self.name,
            running=self._ticker is not None,
            level=self._state.level,
            ticks=self._ticks,
            full_looks=self._gauge.full_looks,
            **self._alerts.counts(),
            cpu_seconds=self._cpu,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )

    def tick(self) -> float:
        """
        Look, raise alerts, relieve. Raises only a callback's error, with ``on_error="raise"``.

        Thread-safe; a tick during another one does nothing.

        Returns:
            Seconds until the next look is due.

        Cost: 50 to 200 µs while the level is ok.
        """
        try:
            delay = self._turn.run(self._measured_tick, busy=None)
        except MemoryError as error:  # where the turn was taken: the tick itself counts its own
            self._failures.add("tick", error)
            return self._interval
        finally:
            if self._stop_requested and self.relief is not None:
                self.relief.restore()
        if delay is None:
            return self._interval
        raised = self._alerts.take_error()
        if raised is not None and self._on_error == "raise":
            raise raised
        return delay

    def _measured_tick(self) -> float:
        began = time.thread_time()
        try:
            self._ticks += 1
            return self._tick()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("tick", error)
            return self._interval
        finally:
            self._cpu += time.thread_time() - began

    def glance(self) -> Reading | None:
        """
        Return what this process has now; None if another thread asks too, or this is not running.

        Thread-safe; cost: some µs.
        """
        check()
        if self._ticker is None or self._glance is None:
            return None
        return self._glancing.run(self._glance, busy=None)

    def call_soon(self, call: Callable[[], object]) -> bool:
        """
        Have the thread call *call*; what it raises is counted.

        Thread-safe; returns at once.

        Returns:
            False if there is no such thread, or it is the one that asks.
        """
        check()
        ticker = self._ticker
        if ticker is None or not ticker.alive or ticker.is_mine:
            return False
        self._calls.append(call)
        ticker.request()
        return True

    def look_on_request(self) -> None:
        """Do what `call_soon` and `request` asked for."""
        if self._calls:
            self._do_calls()
        self.tick()

    def _do_calls(self) -> None:
        began = time.thread_time()
        for call in drain(self._calls):
            try:
                call()
            except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
                self._failures.add("call", error)
        self._cpu += time.thread_time() - began

    def request(self) -> None:
        """Have the thread look at once. Returns immediately; safe anywhere."""
        ticker = self._ticker
        if ticker is not None:
            ticker.request()

    def _tick(self) -> float:
        look = self._gauge.look(at_rest=self._pace.is_at_rest and self._state.level == "ok")
        if look is None:
            return self._pace.nap
        judgement = self._levels.judge(look.sample)
        self._state = PressureState.of(look, judgement)
        # Memory first; the log and callbacks can wait.
        response, alerts = self._response, self._alerts
        relieved = response is not None and response.act(look, self._with_reserves(look, judgement))
        if judgement.changed:
            alerts.add(Alert.of("level", look, judgement, None))
        for kind, report in response.alerts_due(judgement) if response is not None else ():
            alerts.add(Alert.of(kind, look, judgement, report))
        first, self._first = self._first, None
        for seen in (first, look):
            if seen is not None and seen.is_full:
                alerts.call(self._on_reading, seen.reading)
        if relieved:
            look = self._gauge.look_now()
            self._state = PressureState.of(look, judgement)
        return self._pace.next(look, busy=judgement.level in ("elevated", "critical"))

    def _with_reserves(self, look: Look, judgement: Judgement) -> Judgement:
        """Return *judgement* as if running work had taken what it was promised: no room to grow."""
        reserved = 0 if self._reserved is None else self._reserved()
        if not reserved or look.sample.used is None:
            return judgement
        highest = max(judgement.highest_used or 0, look.sample.used + reserved)
        return replace(judgement, highest_used=highest)
