"""`MemoryGuard`: one call builds and owns what watches a process and frees its memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from memguard import log
from memguard.bounded.options import check_callable, check_flag, check_instance, check_path
from memguard.errors import LifecycleError, MemguardError
from memguard.guard.children import Children
from memguard.leaks.detector import LeakDetector
from memguard.leaks.report import LeakReport
from memguard.leaks.statistics import LeakDetectorStatistics
from memguard.lifecycle import fork, locks, uwsgi
from memguard.lifecycle.degraded import Degradations, Degraded, described
from memguard.lifecycle.fork import check, reset_after_fork, restart_after_fork
from memguard.lifecycle.loops import running_loop
from memguard.lifecycle.private_directory import for_process
from memguard.lifecycle.registry import Registration, Registry
from memguard.observe.gcwatch import GcStatistics, GcWatch
from memguard.observe.history import History, HistoryStatistics
from memguard.observe.readings import Reading
from memguard.relief.admission import (
    Admission,
    AdmissionStatistics,
    Admitted,
    AsyncAdmitted,
    WhenBlind,
)
from memguard.relief.caches import held_by_containers
from memguard.relief.callbacks import (
    CallbackRegistration,
    PressureFunction,
    PressureLevel,
    PressureStage,
)
from memguard.relief.collector import GcPolicy, GcPolicyStatistics
from memguard.relief.levels import Level
from memguard.relief.monitor import PressureMonitor
from memguard.relief.records import Alert, PressureState, PressureStatistics, ReliefStatistics
from memguard.relief.steps import Relief
from memguard.report.publish.publisher import Publisher, PublisherStatistics
from memguard.units import parse_seconds

if TYPE_CHECKING:
    import asyncio

MOST_SUBSCRIBERS = 100
_IN_LOOP_SECONDS = 0.02
"""For a thread that sleeps to wake up and end; one that works is not waited for."""

Subscription: TypeAlias = Registration[Callable[[Alert | LeakReport], object]]
"""A callback that is called, until it is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardStatus:
    """The state of a `MemoryGuard`: strings and numbers only."""

    running: bool
    degraded: tuple[Degraded, ...]
    """Parts that do not do all of their work, through no fault of their options, and why."""
    degradations: tuple[tuple[str, int], ...]
    """(part, times that it was switched off), since the guard was made."""
    pressure: PressureState
    alerts: tuple[Alert, ...]
    """The last ten, oldest first."""
    monitor: PressureStatistics
    relief: ReliefStatistics | None
    """None if relief is switched off; likewise for the other parts below."""
    admission: AdmissionStatistics
    detector: LeakDetectorStatistics | None
    history: HistoryStatistics | None
    gc: GcStatistics | None
    gc_policy: GcPolicyStatistics | None
    publisher: PublisherStatistics | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as strings, numbers, lists and dicts."""
        found = asdict(self)
        found["pressure"] = self.pressure.to_dict()
        return found


class MemoryGuard:
    """
    Keep this process inside its memory, and find what leaks.

    Owns a `LeakDetector`, a `PressureMonitor` with `Relief`, a `History` and a `GcWatch`, each of
    which can be left out, and starts and stops them together: two threads at most.

    Bounded by: its parts, each of which states its own bound.
    Locks: one mutex around starting and stopping; nothing of the host's runs under it.
    Keeps alive: its callbacks; containers not at all.

    In a forked child it is stopped: call `start` there (gunicorn: in ``post_worker_init``), or let
    it start again by itself with ``restart_in_children=True``. Inside uWSGI no thread is started in
    the process that workers are forked from: see ``docs/production.md``.

    Faults of the environment do not raise: a disk that is full or read-only, a history file that
    another process writes, no thread or descriptor to be had, a hidden ``/proc``. The part is off
    then, ``status().degraded`` says which and why, and the log says it once.

    Example:
        >>> with MemoryGuard(limit="8GiB", leaks=False) as guard:
        ...     guard.status().running
        True

    Args:
        limit: ``"auto"`` for the bounds of control groups, rlimits and the host; or a bound of your
            own on private and shared memory, bytes or ``"512MiB"``, beside those.
        children: Count the memory of child processes against *limit*, too: those of
            multiprocessing, DataLoader, joblib. The bounds of a control group count them anyway.
        interval: Seconds between readings where nothing is happening.
        elevated: Used share of the limit from which relief frees memory.
        critical: Used share from which relief frees everything it can and no work is admitted.
        hold_off: Seconds that it must have been calm before a level is left.
        relief: Free memory under pressure; False only watches.
        leaks: Watch for leaks.
        leak_options: More options for the `LeakDetector`.
        report_dir: Directory for leak reports; None writes none. Processes may share it.
        source_lines: Quote the allocating lines of code in leak reports; they may hold literals.
        history: Keep readings in memory; a path keeps them in a file, too, which one process
            writes. ``{pid}`` in these paths is the number of the process.
        gc_watch: Count the collector's pauses.
        gc_policy: Thresholds or a share of the time for the collector.
        publish: Publish the state of this guard to other processes of the same user, such as
            ``memguard top``: a small file, written again after each reading. True for the usual
            directory, or a local directory of your own.
        when_blind: What `admit` does while it cannot be read how full memory is: ``"admit"`` or
            ``"refuse"``.
        restart_in_children: True starts the guard again in every forked child, if it runs in the
            parent: 50 ms after the fork; or when it is used there next, if the child was forked
            without Python's hooks, or eventlet is loaded. Without it the child has a stopped
            guard. The parent logs once that a child has run for ten seconds without one,
            unless this is False.
        on_level: Called with an `Alert` after each change of the level.
        on_alert: Called with every `Alert`.
        on_recycle: Called with an `Alert` when relief frees nothing and memory is critical: end
            this process in an orderly way, as a worker does after its last request.
        on_leak: Called with each new `LeakReport`.
        name: For logs and threads.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range; or a file or directory must not be used: a
            link, one that others may write to, a file of another application.
    """

    def __init__(
        self,
        *,
        limit: int | str = "auto",
        children: bool = False,
        interval: float | str = 1.0,
        elevated: float = 0.75,
        critical: float = 0.90,
        hold_off: float | str = 10.0,
        relief: bool | Relief = True,
        leaks: bool = True,
        leak_options: Mapping[str, Any] | None = None,
        report_dir: str | os.PathLike[str] | None = None,
        source_lines: bool = True,
        history: bool | str | os.PathLike[str] = True,
        gc_watch: bool = True,
        gc_policy: GcPolicy | None = None,
        publish: bool | str | os.PathLike[str] = False,
        when_blind: WhenBlind = "admit",
        restart_in_children: bool | None = None,
        on_level: Callable[[Alert], object] | None = None,
        on_alert: Callable[[Alert], object] | None = None,
        on_recycle: Callable[[Alert], object] | None = None,
        on_leak: Callable[[LeakReport], object] | None = None,
        name: str = "memguard",
    ) -> None:
        check_flag(leaks, "leaks")
        check_flag(gc_watch, "gc_watch")
        check_flag(source_lines, "source_lines")
        if restart_in_children is not None:
            check_flag(restart_in_children, "restart_in_children")
        if not isinstance(relief, bool | Relief):
            raise TypeError(f"relief must be True, False or a Relief (got {type(relief).__name__})")
        if not isinstance(publish, bool | str | os.PathLike):
            kind = type(publish).__name__
            raise TypeError(f"publish must be True, False or a directory (got {kind})")
        self.name = name
        self._degradations = Degradations(name)
        self._on_alert = check_callable(on_alert, "on_alert")
        self._on_recycle = check_callable(on_recycle, "on_recycle")
        self._on_leak = on_leak
        self._on_end: Callable[[LeakReport], object] | None = None
        self._subscribers: Registry[Callable[[Alert | LeakReport], object]] = Registry(
            MOST_SUBSCRIBERS, "callbacks"
        )
        self.gc_watch: GcWatch | None = GcWatch() if gc_watch else None
        self.relief: Relief | None = (
            Relief(watch=self.gc_watch) if relief is True else relief or None
        )
        self.gc_policy: GcPolicy | None = check_instance(
            gc_policy, GcPolicy, "gc_policy", optional=True
        )
        self.monitor = PressureMonitor(
            limit,
            children=children,
            elevated=elevated,
            critical=critical,
            hold_off=hold_off,
            interval=interval,
            relief=self.relief,
            on_level=on_level,
            on_alert=self._alerted,
            on_reading=self._read,
            reserved=lambda: self.admission.reserved(),  # noqa: PLW0108 - reason: it is made below
            name=name,
        )
        self.admission = Admission(
            self.monitor.pressure,
            critical=critical,
            when_blind=when_blind,
            look=self.monitor.request,
            relief=self.relief,
            run_soon=self.monitor.call_soon,
            read=self.monitor.glance,
            contained=held_by_containers,
        )
        self.detector: LeakDetector | None = None
        if leaks:
            options: dict[str, Any] = {"limit": limit, "name": name, "report_dir": report_dir}
            options["source_lines"] = source_lines
            options |= {"on_leak": on_leak, "on_end": None, **(leak_options or {})}
            self._on_leak = check_callable(options["on_leak"], "on_leak")
            self._on_end = check_callable(options["on_end"], "on_end")
            options |= {"on_leak": self._leaked, "on_end": self._ended}
            self.detector = LeakDetector(**options)
        self.publisher: Publisher | None = None
        if publish is not False:
            within = 3 * parse_seconds(interval, name="interval")  # at rest it looks less often
            self.publisher = Publisher(None if publish is True else publish, within=within)
        self._history_path = None if isinstance(history, bool) else check_path(history, "history")
        # Made last: it may open a file, which stays open if a later part fails.
        self.history: History | None = None if history is False else self._new_history()
        self._history_pid = os.getpid()
        self._lock = locks.RLock()  # a handler of SIGTERM may stop a guard that is stopping
        self._running = False
        self._entered = False
        self._closed = False
        self._restarts = restart_in_children
        self._children = None if restart_in_children is False else Children()
        self._wants_restart = False
        reset_after_fork(self)
        if restart_in_children:
            restart_after_fork(self)

    def _new_history(self) -> History:
        """Return a history with its file, or only in memory where the file cannot be used."""
        if self._history_path is None:
            return History()
        try:
            history = History(path=for_process(self._history_path))
        except (LifecycleError, OSError) as error:
            self._degradations.set("history", f"{described(error)}; kept in memory only")
            return History()
        self._degradations.set("history", None)
        return history

    def _reset(self) -> None:
        """Be stopped, in a forked child; the parts see to themselves."""
        self._degradations = Degradations(self.name)
        self._lock = locks.RLock()
        self._wants_restart = bool(self._restarts) and (self._running or self._wants_restart)
        if self._children is not None and self._running:
            self._children.enter()
        self._running = False
        self._entered = False

    @property
    def wants_restart(self) -> bool:
        """True in a forked child until the guard has started again there."""
        return self._wants_restart

    def restart(self) -> None:
        """Start in a forked child, if that is wanted; otherwise do nothing. Never raises."""
        if not self._wants_restart or uwsgi.is_before_fork():
            return
        try:
            self.start()
        except LifecycleError:  # it was started meanwhile
            pass
        except Exception as error:  # noqa: BLE001 - reason: whoever uses it did not ask for the start
            log.event(log.ERROR, "guard.not_restarted", guard=self.name, error=described(error))

    def _touch(self) -> None:
        """Be what this process needs, before anything is answered in a forked child."""
        check()
        if self._wants_restart:
            self.restart()

    # -- life cycle -------------------------------------------------------------------------------

    def start(self) -> Self:
        """
        Start every part, and return the guard.

        A part whose thread cannot be had is off; without any, the guard is not running, and may be
        started again.

        Raises:
            LifecycleError: It is running already.
        """
        check()
        obstacle = uwsgi.obstacle()
        with self._lock:
            if self._running:
                raise LifecycleError(f"guard {self.name!r} is already started; call stop() first")
            self._running = obstacle is None
            self._wants_restart = self._closed = False
        if obstacle is not None:
            self._wait_for_fork(obstacle)
            return self
        try:
            runs = self._start_parts()
        except BaseException:
            self.stop()
            raise
        # Stopped meanwhile, by another thread or a signal handler, or no thread was to be had.
        if not (self._running and runs):
            self.stop()
        return self

    def _start_parts(self) -> bool:
        """Start all of them; True if a thread runs."""
        if (children := self._children) is not None:
            children.open()
        if self.publisher is not None:
            self.publisher.open()
        if self.history is not None and self._history_pid != os.getpid():
            self._history_pid = os.getpid()
            self.history = self._new_history()  # a forked child does not write its parent's
        for part in (self.gc_watch, self.gc_policy):
            if part is not None:
                part.start()
        runs = self._started("pressure", self.monitor)
        if self.detector is not None:
            runs = self._started("leaks", self.detector) or runs
        return runs

    def _wait_for_fork(self, obstacle: str) -> None:
        """Start no thread inside uWSGI; say so, unless each worker starts the guard by itself."""
        if self.history is not None:  # its file is for a process that watches
            self.history.close()
            self.history, self._history_pid = History(), 0
        if self._restarts and uwsgi.runs_threads():
            self._wants_restart = True
            uwsgi.call_after_fork(fork.restart)
            return
        self._degradations.set("pressure", obstacle)
        if self.detector is not None:
            self._degradations.set("leaks", obstacle)
        uwsgi.say(obstacle)

    def _started(self, name: str, part: PressureMonitor | LeakDetector) -> bool:
        try:
            part.start()
        except MemguardError:
            raise
        except (RuntimeError, MemoryError, OSError) as error:  # no thread
            part.stop()
            self._degradations.set(name, f"it could not start, and is off: {described(error)}")
            return False
        self._degradations.set(name, None)
        return True

    def _check_parts(self) -> None:
        """Notice which parts are off now, and which work again. Logs: under no lock."""
        degradations, monitor, journal = self._degradations, self.monitor, self.history
        if monitor.statistics().running:
            trouble = monitor.trouble
            if trouble is not None and monitor.pressure().is_blind:
                trouble = f"{trouble} admit() {self.admission.when_blind}s work meanwhile"
            degradations.set("pressure", trouble)
        if self.detector is not None:
            found = self.detector.statistics().report_error
            degradations.set("reports", found and f"no report can be written: {found}")
        if journal is not None and (written := journal.statistics()).file is not None:
            error = written.file_error
            degradations.set("history", error and f"the file cannot be used now: {error}")
        if self.publisher is not None:
            failed = self.publisher.statistics().error
            degradations.set("publish", failed and f"no status can be written: {failed}")
        self._look_after_children()

    def _look_after_children(self) -> None:
        children = self._children
        if children is None or not self._running or (pid := children.unguarded()) is None:
            return
        with self._lock:  # `status` looks, too: whoever comes first says it, and nobody again
            is_first, self._children = self._children is not None, None
        if not is_first:
            return
        remedy = "call memguard.install() there"
        if not self._restarts:
            remedy += ", or here install(restart_in_children=True)"
        log.event(log.WARNING, "guard.child_unguarded", guard=self.name, child=pid, remedy=remedy)

    def stop(self, timeout: float = 5.0) -> bool:
        """
        Stop every part and restore the bounds of caches. Idempotent.

        Args:
            timeout: Seconds to wait for each thread.

        Returns:
            True when all threads have ended.
        """
        check()
        with self._lock:
            self._running = self._wants_restart = False
        if (children := self._children) is not None:
            children.leave()
        ended = self.monitor.stop(timeout)
        if self.detector is not None:
            ended = self.detector.stop(timeout) and ended
        for part in (self.gc_policy, self.gc_watch):
            if part is not None:
                part.stop()
        if self.publisher is not None:
            self.publisher.stop(min(1.0, timeout))
        if self.history is not None:
            self.history.flush()
        return ended

    async def astop(self, timeout: float = 5.0) -> bool:
        """
        Do what `stop` does, while the event loop goes on.

        Args:
            timeout: Seconds to wait for each thread.

        Returns:
            True when all threads have ended.
        """
        import asyncio  # noqa: PLC0415 - reason: who awaits has loaded it; others need not

        try:
            return await asyncio.to_thread(self.stop, timeout)
        except RuntimeError:  # no thread to be had: stop without waiting
            return self.stop(0.0)

    def close(self) -> None:
        """
        Stop, and release the history's file; `install` may then build another guard.

        In the thread of a running event loop it does not wait for a look that is under way, which
        ends by itself soon after; to wait, ``await guard.astop()`` first.
        """
        self._closed = True
        self.stop(_IN_LOOP_SECONDS if running_loop() is not None else 5.0)
        if self.history is not None:
            self.history.close()
            self.history = None

    @property
    def closed(self) -> bool:
        """True after `close`, until it is started again."""
        return self._closed

    def __enter__(self) -> Self:
        """Return the guard, started; one that runs, as `install` gives it back, is taken over."""
        self._touch()
        with self._lock:
            if self._running and not self._entered:
                self._entered = True
                return self
        self.start()
        self._entered = True
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, and release the history's file."""
        self._entered = False
        self.close()

    def __repr__(self) -> str:
        self._touch()
        state = "running" if self._running else "stopped"
        return f"{type(self).__name__}(name={self.name!r}, {state})"

    # -- what the monitor and the detector report -------------------------------------------------

    def _read(self, reading: Reading) -> None:
        history = self.history
        if history is not None:
            history.add(reading)
        if self.gc_watch is not None:
            self.gc_watch.tick()
        if self.gc_policy is not None:
            self.gc_policy.tick()
        if self.publisher is not None:
            self.publisher.publish(self)
        self._check_parts()

    def _alerted(self, alert: Alert) -> None:
        on_recycle = self._on_recycle if alert.kind == "recycle" else None
        _call_each((self._on_alert, on_recycle, *self._subscribers), alert)

    def _leaked(self, report: LeakReport) -> None:
        _call_each((self._on_leak, *self._subscribers), report)

    def _ended(self, report: LeakReport) -> None:
        _call_each((self._on_end, *self._subscribers), report)

    # -- status and actions -----------------------------------------------------------------------

    @property
    def level(self) -> Level:
        """The level of the last look."""
        self._touch()
        return self.monitor.level

    @property
    def reports(self) -> tuple[LeakReport, ...]:
        """The latest leak reports, oldest first; none if leaks are not watched."""
        return () if self.detector is None else self.detector.reports

    def status(self) -> GuardStatus:
        """Return what every part knows. Thread-safe; cost: some ten µs."""
        self._touch()
        detector, history, watch = self.detector, self.history, self.gc_watch
        self._check_parts()
        return GuardStatus(
            running=self._running,
            degraded=self._degradations.now,
            degradations=self._degradations.counts,
            pressure=self.monitor.pressure(),
            alerts=self.monitor.alerts,
            monitor=self.monitor.statistics(),
            relief=None if self.relief is None else self.relief.statistics(),
            admission=self.admission.statistics(),
            detector=None if detector is None else detector.statistics(),
            history=None if history is None else history.statistics(),
            gc=None if watch is None else watch.statistics(),
            gc_policy=None if self.gc_policy is None else self.gc_policy.statistics(),
            publisher=None if self.publisher is None else self.publisher.statistics(),
        )

    def subscribe(self, callback: Callable[[Alert | LeakReport], object]) -> Subscription:
        """
        Call *callback* with every `Alert`, and each `LeakReport` that is new or over.

        It is called as on_alert and on_leak are, and again with the last report of a leak that has
        ended or was retracted: ``report.state`` is ``leaking``, ``ended`` or ``retracted``.

        It runs in the guard's threads, outside our locks; what it raises is counted. In a
        forked child it stays subscribed.

        Returns:
            A subscription; close it to take the callback back.

        Raises:
            TypeError: It is not callable.
            CapacityError: There are 100 already.
        """
        return self._subscribers.add(check_callable(callback, "callback", optional=False))

    def admit(self, cost_bytes: int | str = 0, *, wait: float | str = 0.0) -> Admitted:
        """
        Admit work that needs *cost_bytes*: ``with guard.admit("200MiB", wait=30):``.

        It has to fit under every bound; if it does not, relief is asked for room first. In a
        coroutine use `aadmit`. See `Admission`.

        Raises:
            AdmissionError: There is no room for it now; it is a `MemoryError`, too.
        """
        self._touch()
        return self.admission.admit(cost_bytes, wait=wait)

    def aadmit(self, cost_bytes: int | str = 0, *, wait: float | str = 0.0) -> AsyncAdmitted:
        """
        Return ``async with guard.aadmit("200MiB", wait=30):``, which blocks no event loop.

        Raises:
            AdmissionError: On entering: there is no room for it now; a `MemoryError`, too.
        """
        self._touch()
        return self.admission.aadmit(cost_bytes, wait=wait)

    def on_pressure(
        self,
        callback: PressureFunction,
        *,
        stage: PressureStage = "costly",
        level: PressureLevel = "elevated",
        priority: int = 0,
        deadline: float | str = 1.0,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> CallbackRegistration:
        """
        Call *callback* under memory pressure until enough is freed: see `Relief.on_pressure`.

        Raises:
            LifecycleError: This guard has no relief (``relief=False``), or *callback* is a
                coroutine function and there is no loop.
        """
        if self.relief is None:
            raise LifecycleError("this guard was built with relief=False and frees nothing")
        return self.relief.on_pressure(
            callback, stage=stage, level=level, priority=priority, deadline=deadline, loop=loop
        )


def _call_each(callbacks: Iterable[Callable[[Any], object] | None], argument: object) -> None:
    """Call all of *callbacks* but None; the first error is raised when all were called."""
    first: Exception | None = None
    try:
        for callback in filter(None, callbacks):
            try:
                callback(argument)
            except Exception as error:  # noqa: BLE001 - reason: the host's code; raised when all were called
                first = error if first is None else first
        if first is not None:
            raise first
    finally:
        first = None  # its traceback holds this frame, which would hold it
