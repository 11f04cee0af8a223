"""
PressureMonitor: look at how full it is, tell the level, and have memory given back in time.

How often it looks depends on what is left: no longer between two looks than it takes to fill half
of it at a gigabyte a second, and up to *interval* where much is left or nothing has moved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from memguard.errors import ConfigError, LifecycleError
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.lifecycle.ticker import Ticker
from memguard.observe import allocator
from memguard.observe.readings import Reading, read_memory
from memguard.relief.announcer import Announcer
from memguard.relief.gauge import Gauge, Look
from memguard.relief.levels import Level, LevelRules, Levels
from memguard.relief.pace import Pace
from memguard.relief.records import Alert, PressureState, PressureStatistics
from memguard.relief.response import Response
from memguard.relief.steps import Relief
from memguard.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Alert", "Level", "PressureMonitor", "PressureState", "PressureStatistics"]


class PressureMonitor:
    """
    Watch how near this process is to its limit, and give memory back before the kernel takes it.

    Bounded by: the samples of five seconds, ten alerts, one thread.
    Locks: none that anybody waits for: a tick during another one does nothing. Callbacks may call
        anything.
    Keeps alive: the callbacks; containers not at all.

    Example:
        >>> monitor = PressureMonitor(limit="2GiB", elevated=0.7)
        >>> with monitor:
        ...     level = monitor.level

    Args:
        limit: ``"auto"`` for the bounds of control groups, rlimits and the host; or a bound of your
            own on private memory, in bytes, which is obeyed beside those.
        elevated: Used share of the limit from which memory is given back.
        critical: Used share from which everything is given back.
        hysteresis: Relief aims this much below *elevated*; a level is left half way there.
        hold_off: Seconds that it must have been calm before a level is left.
        interval: Most seconds between two looks, and between two full ones; three times as long
            while nothing moves.
        relief: What gives memory back; None only watches.
        on_level: Called as ``on_level(alert)`` after each change of the level.
        on_alert: Called as ``on_alert(alert)`` with every alert: level changes, relief without
            effect, and the request to be recycled.
        on_reading: Called with each full reading, for a history.
        on_error: What a failing callback does: ``"log"``, or ``"raise"`` from `tick`.
        rules: All thresholds at once, instead of the four above.
        name: For logs and the thread.
        timer: Monotonic seconds.
        read: Takes a reading; for tests and platforms of your own.
        gauge: Looks; for tests and platforms of your own.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
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
        rules: LevelRules | None = None,
        name: str = "memguard",
        timer: Callable[[], float] = time.monotonic,
        read: Callable[[], Reading] | None = None,
        gauge: Gauge | None = None,
    ) -> None:
        self._rules = rules or LevelRules(
            elevated=elevated,
            critical=critical,
            hysteresis=hysteresis,
            hold_off=parse_seconds(hold_off, name="hold_off"),
        )
        self._interval = parse_seconds(interval, name="interval")
        if not 0.01 <= self._interval <= 3600:
            raise ConfigError(f"interval must be from 0.01 to 3600 seconds (got {interval!r})")
        own = None if limit == "auto" else parse_bytes(limit, name="limit")
        if own == 0:
            raise ConfigError("limit must be > 0 bytes or 'auto' (got 0)")
        if relief is not None and not isinstance(relief, Relief):
            raise TypeError(f"relief must be a Relief or None (got {type(relief).__name__})")
        if not isinstance(name, str):
            raise TypeError(f"name must be a string (got {type(name).__name__})")
        if on_error not in ("log", "raise"):
            raise ConfigError(f"on_error must be 'log' or 'raise' (got {on_error!r})")
        for option, value in (
            ("on_level", on_level),
            ("on_alert", on_alert),
            ("on_reading", on_reading),
        ):
            if value is not None and not callable(value):
                raise TypeError(f"{option} must be callable (got {type(value).__name__})")
        self.name = name
        self.relief = relief
        self._on_level, self._on_alert, self._on_reading = on_level, on_alert, on_reading
        self._on_error = on_error
        self._timer = timer
        self._given_gauge = gauge
        self._gauge_options: dict[str, Any] = {
            "limit": own,
            "interval": self._interval,
            "timer": timer,
            "read": read or read_memory,
            "glance": read,
        }
        self._failures = Failures("pressure.failed")
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Enter the state of one that was never started. Only sets fields: runs after fork."""
        self._turn = threading.Lock()
        self._ticker: Ticker | None = None
        self._levels = Levels(self._rules)
        self._gauge = self._given_gauge or Gauge(**self._gauge_options)
        self._pace = Pace(self._interval)
        self._state = PressureState()
        self._announcer = Announcer(
            self.name, self._failures, on_level=self._on_level, on_alert=self._on_alert
        )
        self._response: Response | None = None
        if self.relief is not None:
            self._response = Response(
                self.relief, self._rules, timer=self._timer, look_now=self._gauge.look_now
            )
        self._ticks = 0
        self._cpu = 0.0
        self._stop_asked = False
        self._first: Look | None = None

    def start(self) -> Self:
        """
        Start the thread that looks, and return the monitor.

        Cost: a millisecond, for the first look at every bound, in the thread of the caller.

        Raises:
            LifecycleError: It is running already.
            RuntimeError: There is no thread to be had.
        """
        if self._ticker is not None:
            raise LifecycleError(f"monitor {self.name!r} is already started; call stop() first")
        allocator.prepare()
        self._stop_asked = False
        self._find_bounds()
        self._ticker = Ticker(self, f"memguard-pressure-{self.name}").start()
        return self

    def _find_bounds(self) -> None:
        """
        Read every bound while the host is still waiting for us.

        It takes a dozen small files. Among busy threads each of them waits for its turn, and memory
        may be full before the last has been read; one glance after this does with one file.
        """
        if self._turn.acquire(blocking=False):
            try:
                self._first = self._gauge.look()
            except Exception as error:  # noqa: BLE001 - reason: law 2; the thread will try again
                self._failures.add("tick", error)
            finally:
                self._turn.release()

    def stop(self, timeout: float = 5.0) -> bool:
        """
        End the thread and give caches their own bounds back. Idempotent.

        Args:
            timeout: Seconds to wait for a tick that is under way.

        Returns:
            True when the thread has ended.
        """
        ticker, self._ticker = self._ticker, None
        self._stop_asked = True  # a tick under way gives back what it still lowers
        ended = ticker.stop(timeout) if ticker is not None else True
        if self.relief is not None:
            self.relief.restore()
        self._gauge.close()
        return ended

    def close(self) -> None:
        """Do what `stop` does."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def level(self) -> Level:
        """``"ok"``, ``"elevated"``, ``"critical"`` or ``"insufficient_data"``, at the last look."""
        return self._state.level

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The last ten alerts, oldest first."""
        return self._announcer.latest

    def pressure(self) -> PressureState:
        """Return the level, the reasons for it and the numbers behind it, as of the last look."""
        return self._state

    def statistics(self) -> PressureStatistics:
        """Return what was done so far and what it cost. Thread-safe."""
        return PressureStatistics(
            name=self.name,
            running=self._ticker is not None,
            level=self._state.level,
            ticks=self._ticks,
            full_looks=self._gauge.full_looks,
            level_changes=self._announcer.changes,
            alerts=self._announcer.count,
            alerts_by_kind=self._announcer.by_kind,
            alerts_dropped=self._announcer.dropped,
            cpu_seconds=self._cpu,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )

    def tick(self) -> float:
        """
        Look, tell, relieve. Raises nothing but a callback's error, if so ordered.

        Thread-safe; a tick during another one does nothing.

        Returns:
            Seconds until the next look is due.

        Cost: 50 to 200 µs while the level is ok.
        """
        if not self._turn.acquire(blocking=False):
            return self._interval
        began = time.thread_time()
        try:
            self._ticks += 1
            delay = self._tick()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.add("tick", error)
            delay = self._interval
        finally:
            self._cpu += time.thread_time() - began
            self._turn.release()
            if self._stop_asked and self.relief is not None:
                self.relief.restore()
        raised = self._announcer.take_error()
        if raised is not None and self._on_error == "raise":
            raise raised
        return delay

    def look_on_request(self) -> None:
        """Look now: what waiting for room asks for."""
        self.tick()

    def request(self) -> None:
        """Have the thread look at once. Returns immediately; safe anywhere."""
        ticker = self._ticker
        if ticker is not None:
            ticker.request()

    def _tick(self) -> float:
        look = self._gauge.look(at_rest=self._pace.is_quiet and self._state.level == "ok")
        if look is None:
            return self._pace.nap
        judgement = self._levels.judge(look.sample)
        self._state = PressureState.of(look, judgement)
        # First of all memory; words and callbacks can wait.
        response, announcer = self._response, self._announcer
        relieved = response is not None and response.act(look, judgement)
        if judgement.changed:
            announcer.tell(Alert.of("level", look, judgement, None))
        for complaint, report in response.complaints(judgement) if response is not None else ():
            announcer.tell(Alert.of(complaint, look, judgement, report))
        first, self._first = self._first, None
        for seen in (first, look):
            if seen is not None and seen.is_full:
                announcer.call(self._on_reading, seen.reading)
        if relieved:
            look = self._gauge.look_now()
            self._state = PressureState.of(look, judgement)
        return self._pace.next(look, busy=judgement.level in ("elevated", "critical"))
