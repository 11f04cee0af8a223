"""`Relief`: everything in this process that can give memory back, and runs that make it do so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from memguard import log
from memguard.errors import ConfigError
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import reset_after_fork
from memguard.observe.readings import Reading
from memguard.relief.caches import Caps, Shares
from memguard.relief.callbacks import Callbacks, PressureLevel, Registration
from memguard.relief.collector import Collecting
from memguard.relief.gauge import Glance
from memguard.relief.records import ReliefReport, ReliefStatistics
from memguard.relief.run import Means, Run
from memguard.relief.trim import Trimming
from memguard.units import parse_bytes, parse_seconds

OnError = Literal["log", "raise"]


class Relief:
    """
    Give memory back from everything in this process that can.

    Bounded by: one run at a time; a second one is refused, not queued.
    Locks: none while containers, finalizers or callbacks run; a run in another thread is not waited
        for.
    Keeps alive: callbacks registered with `on_pressure`; containers only by weak references.

    Args:
        gc_share: Part of the time that full collections may take, above 0 to 1.
        gc_pause: The longest full collection, seconds, that a monitor may cause.
        gc_last_pause: The longest one as a last resort: where memory is critical and relief has
            been in vain, and where somebody asks for relief.
        trim_interval: Least seconds between two calls of ``malloc_trim``; a tenth at critical.
        on_error: What a failing callback does: ``"log"``, or ``"raise"`` from `relieve` when all
            the others have been called.
        timer: Monotonic seconds.
        read: Takes a reading; for tests and platforms of your own.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        gc_share: float = 0.05,
        gc_pause: float | str = 0.01,
        gc_last_pause: float | str = 0.5,
        trim_interval: float | str = 1.0,
        on_error: OnError = "log",
        timer: Callable[[], float] = time.monotonic,
        read: Callable[[], Reading] | None = None,
    ) -> None:
        if isinstance(gc_share, bool) or not isinstance(gc_share, int | float):
            raise TypeError(f"gc_share must be a number (got {type(gc_share).__name__})")
        if not 0 < gc_share <= 1:
            raise ConfigError(f"gc_share must be above 0 and at most 1 (got {gc_share})")
        if on_error not in ("log", "raise"):
            raise ConfigError(f"on_error must be 'log' or 'raise' (got {on_error!r})")
        for option, value in (("timer", timer), ("read", read or timer)):
            if not callable(value):
                raise TypeError(f"{option} must be callable (got {type(value).__name__})")
        self._on_error = on_error
        self._glance = Glance(timer=timer)
        self._failures = Failures("relief.failed")
        self._shares = Shares(self._failures)
        self._caps = Caps()
        self._callbacks = Callbacks(self._failures)
        self._means = Means(
            shares=self._shares,
            caps=self._caps,
            callbacks=self._callbacks,
            collecting=Collecting(share=gc_share, timer=timer),
            trimming=Trimming(parse_seconds(trim_interval, name="trim_interval"), timer=timer),
            failures=self._failures,
            pause=parse_seconds(gc_pause, name="gc_pause"),
            last_pause=parse_seconds(gc_last_pause, name="gc_last_pause"),
            timer=timer,
            read=read or self._glance,
        )
        self._totals = {"runs": 0, "refused": 0, "freed": 0, "rss_freed": 0}
        self._seconds = self._longest = 0.0
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Let nobody be at work: runs after fork."""
        self._turn = threading.Lock()

    # -- what may be given ------------------------------------------------------------------------

    def on_pressure(
        self,
        callback: Callable[[], Any],
        *,
        level: PressureLevel = "elevated",
        priority: int = 0,
    ) -> Registration:
        """
        Call *callback* when caches, pools and the collector did not give enough.

        It runs in the thread of the monitor, or of whoever called `relieve`, under no lock. It may
        return the bytes it gave back, for the record.

        Args:
            callback: Takes nothing; a failure is counted and logged once for each kind.
            level: From which level on it is called.
            priority: Lower ones first; callbacks of one priority in the order of registration.

        Returns:
            A registration; close it to take the callback back.

        Raises:
            TypeError: An argument is of the wrong kind.
            ConfigError: *level* is none.
            CapacityError: There are 1000 callbacks already.
        """
        return self._callbacks.add(callback, level=level, priority=priority)

    def protect(self, cache: Any, *, least_bytes: int | str) -> None:
        """
        Leave *cache* at least *least_bytes*, however short memory is; 0 takes that back.

        Raises:
            TypeError: *cache* is no container that relief takes from.
            ConfigError: *least_bytes* is no size.
        """
        if not hasattr(cache, "reclaim") or not hasattr(cache, "footprint"):
            raise TypeError(f"protect needs a container of memguard (got {type(cache).__name__})")
        self._shares.protect(cache, parse_bytes(least_bytes, name="least_bytes"))

    # -- a run ------------------------------------------------------------------------------------

    def relieve(
        self,
        target: int | str | None = None,
        *,
        level: PressureLevel = "critical",
        reason: str = "asked for",
        force: bool = True,
        last_resort: bool = False,
    ) -> ReliefReport:
        """
        Give *target* bytes back now, and return what each step gave. Never fails for a container.

        Thread-safe; while a run is under way in another thread (or in this one, when a callback
        asks) it does nothing and says so. Cost: milliseconds for each 100 MiB; a full collection,
        where it fits into the pause that is allowed; on glibc a ``malloc_trim``. Not for the thread
        of an event loop: use ``asyncio.to_thread``.

        Args:
            target: Bytes wanted; None takes whatever caches and pools can give.
            level: How much is at stake: at ``"elevated"`` caches keep a little, pools half of what
                is idle.
            reason: For the record.
            force: Do steps that lately gave nothing, too, and a long collection.
            last_resort: Do a long collection.

        Raises:
            TypeError: *target* is of the wrong kind.
            ConfigError: *target* is no size, or *level* is none.
            Exception: What a callback raised, with ``on_error="raise"``.
        """
        if level not in ("elevated", "critical"):
            raise ConfigError(f"level must be 'elevated' or 'critical' (got {level!r})")
        goal = None if target is None else parse_bytes(target, name="target")
        if not self._turn.acquire(blocking=False):
            self._totals["refused"] += 1
            return ReliefReport(reason=reason, goal=goal or 0, busy=True)
        try:
            run = Run(self._means, goal, level=level, reason=reason, force=force)
            run.may_pause_long = force or last_resort
            report = run.go()
        finally:
            self._turn.release()
        self._count(report)
        log.event(
            logging.INFO,
            "relief.done",
            reason=reason,
            goal=report.goal,
            freed=report.freed,
            rss_freed=report.rss_freed,
            seconds=round(report.seconds, 4),
            steps=" ".join(step.name for step in report.steps if step.skipped is None),
        )
        if run.error is not None and self._on_error == "raise":
            raise run.error
        return report

    def hold(self, room: int) -> int:
        """Let caches grow by *room* bytes together and no further; return how many are held."""
        if not self._turn.acquire(blocking=False):
            return 0
        try:
            return self._caps.hold(self._shares.caches(), room=room)
        except Exception as error:  # noqa: BLE001 - reason: a resize of the host's own must not end a run
            self._failures.add("resize", error)
            return 0
        finally:
            self._turn.release()

    def regrow(self, room: int) -> int:
        """Let caches that were made smaller grow by *room* bytes at most; return how many may."""
        if not len(self._caps) or not self._turn.acquire(blocking=False):
            return 0
        try:
            return self._caps.regrow(room, self._shares.measure)
        except Exception as error:  # noqa: BLE001 - reason: as above
            self._failures.add("resize", error)
            return 0
        finally:
            self._turn.release()

    def restore(self) -> None:
        """Give every cache the bound back that its owner gave it."""
        self._caps.restore()
        self._glance.close()

    def statistics(self) -> ReliefStatistics:
        """Return what was done so far. Thread-safe."""
        return ReliefStatistics(
            **self._totals,
            seconds=self._seconds,
            longest_seconds=self._longest,
            lowered_caches=len(self._caps),
            callbacks=len(self._callbacks),
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
        )

    def _count(self, report: ReliefReport) -> None:
        self._totals["runs"] += 1
        self._totals["freed"] += report.freed
        self._totals["rss_freed"] += report.rss_freed or 0
        self._seconds += report.seconds
        self._longest = max(self._longest, report.seconds)
