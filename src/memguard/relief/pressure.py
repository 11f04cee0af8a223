"""
PressureMonitor: look at how full it is, tell the level, and have memory given back in time.

How often it looks depends on what is left: no longer between two looks than it takes to fill half
of it at a gigabyte a second, and up to *interval* where much is left or nothing has moved.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.observe import allocator
from memguard.observe.reading import Reading, read_memory
from memguard.relief.alerts import Alert, PressureState, PressureStatistics
from memguard.relief.callbacks import PressureLevel
from memguard.relief.failures import Failures
from memguard.relief.gauge import Gauge, Look
from memguard.relief.levels import Judgement, Level, LevelRules, Levels
from memguard.relief.pace import Pace
from memguard.relief.record import ReliefReport
from memguard.relief.steps import Relief
from memguard.ticking import Ticker, reset_after_fork
from memguard.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Alert", "Level", "PressureMonitor", "PressureState", "PressureStatistics"]
MOST_ALERTS = 10
_REGROW_SECONDS = 1.0
_LEAST_GOAL = 0.02
"""Of the limit: less is not worth a run."""
_STALL_GOAL = 0.05
"""Of its own memory, that a process gives when tasks wait though there is room below the limit."""


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
        self._alerts: deque[Alert] = deque(maxlen=MOST_ALERTS)
        self._alert_count = 0
        self._ticks = 0
        self._changes = 0
        self._cpu = 0.0
        self._regrown_at = float("-inf")
        self._relieved_at = float("-inf")
        self._in_vain = 0
        self._in_vain_report: ReliefReport | None = None
        self._stop_asked = False
        self._error: Exception | None = None

    def start(self) -> Self:
        """
        Start the thread that looks, and return the monitor.

        Raises:
            LifecycleError: It is running already.
        """
        if self._ticker is not None:
            raise LifecycleError(f"monitor {self.name!r} is already started; call stop() first")
        allocator.prepare()
        self._stop_asked = False
        self._ticker = Ticker(self, f"memguard-pressure-{self.name}")
        self._ticker.start()
        return self

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
        return tuple(self._alerts.copy())

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
            level_changes=self._changes,
            alerts=self._alert_count,
            alerts_dropped=self._alert_count - len(self._alerts),
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
        raised, self._error = self._error, None
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
        relieved = self.relief is not None and self._relieve(self.relief, look, judgement)
        if judgement.changed:
            self._changes += 1
            self._raise_alert("level", look, judgement)
        if self._in_vain_report is not None:
            self._tell_in_vain(self._in_vain_report, look, judgement)
        if look.is_full and self._on_reading is not None:
            self._call(self._on_reading, look.reading)
        if relieved:
            look = self._gauge.look_now()
            self._state = PressureState.of(look, judgement)
        return self._pace.next(look, busy=judgement.level in ("elevated", "critical"))

    def _relieve(self, relief: Relief, look: Look, judgement: Judgement) -> bool:
        now = look.sample.at
        level = judgement.level
        if level == "elevated" or level == "critical":  # noqa: PLR1714 - reason: narrows the type
            if now - self._relieved_at < self._pause(level):
                return False
            goal = self._goal(look, judgement)
            if goal > _LEAST_GOAL * (look.sample.limit or 0):
                report = relief.relieve(goal, level=level, reason=f"pressure {level}", force=False)
                self._relieved_at = self._timer()
                self._weigh(report)
                relief.hold(self._room(self._gauge.look_now()))
                return True
            if judgement.changed:
                relief.hold(self._room(look))
        elif level == "ok" and now - self._regrown_at >= _REGROW_SECONDS:
            self._regrown_at = now
            relief.regrow(self._room(look, at_least=judgement.highest_used))
        return False

    def _pause(self, level: PressureLevel) -> float:
        """Return the least seconds between two runs: longer, the more of them were in vain."""
        first, most = (0.05, 5.0) if level == "critical" else (0.5, 60.0)
        return float(min(most, first * (1 << min(self._in_vain, 10))))

    def _goal(self, look: Look, judgement: Judgement) -> int:
        """Return the bytes this process should give: its share of what is too much."""
        sample = look.sample
        if sample.used is None or sample.limit is None:
            return 0
        excess = sample.used - self._rules.target * sample.limit
        if excess <= 0 and any("wait for memory" in reason for reason in judgement.reasons):
            excess = _STALL_GOAL * (look.reading.private or 0)
        return max(0, int(excess * look.own_share))

    def _room(self, look: Look, *, at_least: int | None = None) -> int:
        """
        Return the bytes that may still be used before relief would be called for again.

        Args:
            look: What is used now.
            at_least: What was used a moment ago, and what the allocator may come back to.
        """
        sample = look.sample
        if sample.used is None or sample.limit is None:
            return 0
        used = max(sample.used, at_least or 0)
        return max(0, int((self._rules.target * sample.limit - used) * look.own_share))

    def _weigh(self, report: ReliefReport) -> None:
        """Was it any use?"""
        fell = report.rss_freed
        if report.busy or fell is None:
            return
        self._in_vain = 0 if fell >= report.goal / 4 else self._in_vain + 1
        self._in_vain_report = report if self._in_vain else None

    def _tell_in_vain(self, report: ReliefReport, look: Look, judgement: Judgement) -> None:
        self._in_vain_report = None
        if self._in_vain == 3:
            self._raise_alert("ineffective", look, judgement, relief=report)
        if self._in_vain == 6 and judgement.level == "critical":
            self._raise_alert("recycle", look, judgement, relief=report)

    def _raise_alert(
        self,
        kind: Literal["level", "ineffective", "recycle"],
        look: Look,
        judgement: Judgement,
        relief: ReliefReport | None = None,
    ) -> None:
        alert = Alert.of(kind, look, judgement, relief)
        self._alerts.append(alert)
        self._alert_count += 1
        worse = kind != "level" or judgement.level in ("elevated", "critical")
        log.event(
            logging.WARNING if worse else logging.INFO,
            {
                "level": "pressure.changed",
                "ineffective": "relief.ineffective",
                "recycle": "relief.recycle_requested",
            }[kind],
            monitor=self.name,
            level=alert.level,
            previous=alert.previous,
            used=alert.used,
            limit=alert.limit,
            source=alert.source,
            reasons="; ".join(alert.reasons),
        )
        if kind == "level" and self._on_level is not None:
            self._call(self._on_level, alert)
        if self._on_alert is not None:
            self._call(self._on_alert, alert)

    def _call(self, callback: Callable[..., object], argument: object) -> None:
        try:
            callback(argument)
        except Exception as error:  # noqa: BLE001 - reason: the host's code; counted, and raised where asked for
            self._failures.add("callback", error)
            self._error = self._error or error
