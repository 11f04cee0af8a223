"""LeakDetector: the thread, the turn and the delivery of reports around a `Search` for a leak."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self, get_args

from memguard.bounded.options import (
    check_callable,
    check_choice,
    check_flag,
    check_instance,
    check_number,
    check_path,
)
from memguard.errors import LifecycleError
from memguard.leaks.finding.findings import Finding, Findings, summarize
from memguard.leaks.finding.investigate import POLL_SECONDS
from memguard.leaks.growth.counts import Counted
from memguard.leaks.options import OnError, detector_options
from memguard.leaks.report import LeakReport, without_source_lines
from memguard.leaks.search import Search, look_now, prepare
from memguard.leaks.senses import Senses, Spent
from memguard.leaks.statistics import LeakDetectorStatistics, State
from memguard.lifecycle.degraded import described
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.fork import check, reset_after_fork
from memguard.lifecycle.interpreter import require_main
from memguard.lifecycle.private_directory import for_process
from memguard.lifecycle.service import Service
from memguard.lifecycle.signals import ChainedHandler
from memguard.lifecycle.ticker import Ticker
from memguard.lifecycle.turn import Turn
from memguard.observe.readings import Reading, read_memory
from memguard.report.sinks.directory import ReportDirectory
from memguard.units import parse_bytes


class LeakDetector(Service):
    """
    Find what makes this process grow, and name the line and the holder.

    Bounded by: *max_samples* readings twice, *max_reports* reports, an investigation's budgets.
    Locks: one mutex around a tick; *on_leak* runs outside it. Thread-safe.
    Keeps alive: numbers and strings; growing containers for the seconds of a burst of tracing.

    Example:
        >>> detector = LeakDetector(interval=60, min_growth_bytes="64MiB")
        >>> with detector:
        ...     detector.statistics().state
        'watching'

    Args:
        interval: Seconds from reading to reading, 7 days at most. Windows are counted in readings:
            a test at 0.25 and a service at 60 behave alike.
        growth_threshold: Level over baseline at which growth counts as soon as it is certain.
            Slower growth counts once it has gone on for a third of *max_samples* readings.
        min_growth_bytes: Growth below this never counts. Threads, asyncio tasks, sockets and files
            that pile up are found by their numbers: see ``docs/reports.md``.
        min_samples: Readings needed before anything is reported, 6 to 10000.
        max_samples: Readings kept in full; older ones are thinned out, not forgotten.
        warmup: Seconds from the start that are not judged; None is *min_samples* intervals.
        cooldown: Pause in seconds after a finding; None is 20 intervals (600 s at the default).
        trace_frames: Frames of a stack, 1 to 64, where one frame was cheap; more, up to 100, if
            none of them is in the user's own code. 1 never records more.
        trace_seconds: Seconds that tracing may be on for a finding; None is two intervals, from
            1 to 5. It mostly ends much sooner: when enough was seen.
        trace_bytes: Memory of the tracer at which tracing stops; taking it down stalls 12 ms a MiB.
        retention_seconds: Time in seconds for searching the holders' paths.
        max_objects: Heaps with more blocks get no census.
        max_reports: Reports kept in ``reports``.
        limit: Memory this process may use, bytes; ``"auto"`` asks cgroups, rlimits and the host.
        report_dir: Directory for reports (JSON, text and HTML, 0600 in 0700); None writes none. In
            it ``{pid}`` is the number of the process. If it cannot be made or written to, that is
            counted, and tried again with the next report: see *report_error* in `statistics`.
        source_lines: Quote the line of code that allocates in reports; it may hold a literal that
            must not leave the process. False quotes none: file, line and function stay.
        on_leak: Called with each new leak, in the detector's thread, outside its lock. Growth that
            may be a warm-up is none yet: see ``LeakReport.state``.
        on_end: Likewise with the last report of a leak that has ended or was retracted.
        on_error: What a failure of *on_leak* or *on_end* does: ``"log"``, or ``"raise"`` from
            ``tick``.
        on_signal: A signal, such as ``signal.SIGUSR2``, that asks for a look at once: its report
            is written and logged. The former handler is called, too. None listens to none.
        name: For logs and statistics.
        timer: Monotonic seconds.
        read: Takes a reading; for tests and platforms of your own.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range, or *report_dir* is not private.
    """

    def __init__(
        self,
        *,
        interval: float | str = 30.0,
        growth_threshold: float = 1.3,
        min_growth_bytes: int | str = "16MiB",
        min_samples: int = 10,
        max_samples: int = 60,
        warmup: float | str | None = None,
        cooldown: float | str | None = None,
        trace_frames: int = 8,
        trace_seconds: float | str | None = None,
        trace_bytes: int | str = "4MiB",
        retention_seconds: float | str = 10.0,
        max_objects: int = 20_000_000,
        max_reports: int = 20,
        limit: int | str = "auto",
        report_dir: str | os.PathLike[str] | None = None,
        source_lines: bool = True,
        on_leak: Callable[[LeakReport], object] | None = None,
        on_end: Callable[[LeakReport], object] | None = None,
        on_error: OnError = "log",
        on_signal: int | None = None,
        name: str | None = None,
        timer: Callable[[], float] = time.monotonic,
        read: Callable[[], Reading] = read_memory,
    ) -> None:
        self._options = detector_options(
            interval=interval,
            growth_threshold=growth_threshold,
            min_growth_bytes=min_growth_bytes,
            min_samples=min_samples,
            max_samples=max_samples,
            warmup=warmup,
            cooldown=cooldown,
            trace_frames=trace_frames,
            trace_seconds=trace_seconds,
            trace_bytes=trace_bytes,
            retention_seconds=retention_seconds,
            max_objects=max_objects,
            max_reports=max_reports,
        )
        self.name: str = check_instance("memguard" if name is None else name, str, "name")
        self._senses = Senses(
            timer=check_callable(timer, "timer", optional=False),
            read=check_callable(read, "read", optional=False),
            limit=None if limit == "auto" else parse_bytes(limit, name="limit"),
        )
        self._signal = None if on_signal is None else ChainedHandler(on_signal, self._on_signal)
        self._source_lines = check_flag(source_lines, "source_lines")
        self._findings = Findings(self.name, max_reports)
        self._resources = {each: Findings(self.name, max_reports) for each in get_args(Counted)}
        self._spent = Spent()
        self._failures = Failures("detector.failed", detector=self.name)
        self._delivery = _Delivery(report_dir, on_leak, on_end, on_error, self._failures)
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Enter the state of one that was never started. Only sets fields: runs after fork."""
        self._turn = Turn()
        self._ticker: Ticker | None = None
        self._search: Search | None = None
        self._stop_requested = False

    # -- life cycle

    def start(self) -> Self:
        """
        Start the thread that ticks every *interval* seconds, and return the detector.

        Raises:
            LifecycleError: It is running already, or this is a subinterpreter.
            RuntimeError: There is no thread to be had.
        """
        require_main("LeakDetector.start()")
        check()
        if self._ticker is not None:
            raise LifecycleError(f"detector {self.name!r} is already started; call stop() first")
        self._turn.run(self._end, busy=None, timeout=5.0)
        if self._signal is not None:
            self._signal.open()
        prepare()
        ticker = Ticker(self, f"memguard-detector-{self.name}")
        self._search = self._new_search()
        try:
            self._ticker = ticker.start()
        except BaseException:
            self.stop()
            raise
        return self

    def _new_search(self) -> Search:
        return Search(self._options, self._senses, self._findings, self._resources, self._spent)

    def _on_signal(self) -> None:
        if self._ticker is not None:
            self._ticker.request()

    def look_on_request(self) -> None:
        """Look now, write the report and log it: what the signal asks for."""
        self._delivery.deliver(Finding(self.check(), "new"))

    def stop(self, timeout: float = 5.0) -> bool:
        """
        End the thread and any tracing of ours; what was reported stays in ``reports``. Idempotent.

        A leak that is open keeps its state, as of now: ``LeakReport.watched_until``.

        Args:
            timeout: Seconds to wait for a tick that is under way.

        Returns:
            True when the thread has ended; False when it is still busy after *timeout*.
        """
        check()
        if self._signal is not None:
            self._signal.close()
        ticker, self._ticker = self._ticker, None
        ended = ticker.stop(timeout) if ticker is not None else True
        self._stop_requested = True  # a tick under way, perhaps our caller, ends it instead
        self._turn.run(self._end, busy=None, timeout=timeout if ended else 0.0)
        return ended

    def _end(self) -> None:
        """Become idle, as if never started; what was reported stays."""
        search, self._search = self._search, None
        if search is not None:
            search.abandon()
        for kept in self._all_findings:
            report = kept.close()
            if report is not None:
                self._delivery.write(self._shown(report))

    @property
    def _all_findings(self) -> tuple[Findings, ...]:
        """Those about memory, then those about each count."""
        return (self._findings, *self._resources.values())

    @property
    def reports(self) -> tuple[LeakReport, ...]:
        """The latest findings, oldest first, each as of its last update; at most *max_reports*."""
        every = itertools.chain.from_iterable(kept.reports for kept in self._all_findings)
        found = sorted(every, key=lambda each: each.started_at)
        return tuple(map(self._shown, found[-self._options.max_reports :]))

    def statistics(self) -> LeakDetectorStatistics:
        """Return what was done so far and what it cost. Thread-safe."""
        check()
        search, spent = self._search, self._spent
        tracing_now = 0.0 if search is None else search.traced_seconds
        return LeakDetectorStatistics(
            name=self.name,
            state="idle" if search is None else search.state,
            ticks=spent.ticks,
            errors=self._failures.count,
            errors_by_kind=self._failures.kinds,
            cpu_seconds=spent.cpu_seconds,
            traced_seconds=spent.traced_seconds + tracing_now,
            uptime_seconds=0.0 if search is None else search.uptime,
            investigations=spent.investigations,
            findings=sum(kept.count for kept in self._all_findings),
            suspicion=next(filter(None, (kept.suspicion for kept in self._all_findings)), None),
            reports_dropped=sum(kept.dropped for kept in self._all_findings),
            report_dir=self._delivery.directory,
            report_error=self._delivery.trouble,
        )

    # -- the work

    def tick(self) -> float:
        """
        Take a reading and act on it. Raises nothing but *on_leak*'s error, if so ordered.

        Thread-safe; a tick during another tick or ``check`` does nothing.

        Returns:
            Seconds until the next tick is due.

        Cost: 0.2 ms while watching; see the class for what a finding costs.
        """
        interval = self._options.interval
        try:
            finding, state = self._turn.run(self._tick, busy=(None, None))
        except MemoryError as error:  # where the turn was taken: `_tick` counts its own
            self._failures.count_only("tick", error)
            return interval
        if state is None:
            return interval
        self._failures.log()
        if finding is not None:
            self._delivery.deliver(replace(finding, report=self._shown(finding.report)))
        return min(POLL_SECONDS, interval) if state == "tracing" else interval

    def _tick(self) -> tuple[Finding | None, State]:
        self._stop_requested = False
        started = time.thread_time()
        search, finding = self._search, None
        try:
            self._spent.ticks += 1
            if search is None:
                self._search = search = self._new_search()
            finding = search.step()
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.count_only("tick", error)
            if search is not None:
                search.abandon()
                search.cool()
        finally:
            self._spent.cpu_seconds += time.thread_time() - started
            if self._stop_requested:
                self._end()
        return finding, "idle" if search is None else search.state

    def check(self, *, seconds: float | None = None) -> LeakReport:
        """
        Look now, without waiting for growth, and return a report of kind ``"snapshot"``.

        It is not a finding: it is not in ``reports``, not written, not announced. Blocks its caller
        for *seconds* and the burst of tracing; in a coroutine use ``asyncio.to_thread``.

        Args:
            seconds: Between the two looks; None is an interval, at most one second.

        Raises:
            ConfigError: *seconds* is not from 0 to 3600.
            LifecycleError: Called from within a tick or check of this detector, by a finalizer; or
                in a subinterpreter.
        """
        gap = min(self._options.interval, 1.0) if seconds is None else seconds
        check_number(gap, "seconds", 0, 3600)
        require_main("a look at the heap")
        return self._shown(self._turn.wait(lambda: self._check(gap)))

    def _shown(self, report: LeakReport) -> LeakReport:
        return report if self._source_lines else without_source_lines(report)

    def _check(self, gap: float) -> LeakReport:
        search = self._search
        if search is not None and search.state == "tracing":
            search.abandon()
        started = time.thread_time()
        try:
            trend, evidence = look_now(self._options, self._senses, self._spent, gap=gap)
        finally:
            self._spent.cpu_seconds += (took := time.thread_time() - started)
        return self._findings.snapshot(
            summarize(trend, self._senses.allowance(self._senses.read())),
            evidence,
            uptime_seconds=0.0 if search is None else search.uptime,
            cpu_seconds=took,
        )


class _Delivery:
    """
    Hand findings on: to a directory, to the log, to the application. None can stop the others.

    Bounded by: the directory's caps.
    Locks: none of its own; *on_leak* and *on_end* run under none of ours.
    Keeps alive: *on_leak* and *on_end*.
    """

    def __init__(
        self,
        report_dir: str | os.PathLike[str] | None,
        on_leak: Callable[[LeakReport], object] | None,
        on_end: Callable[[LeakReport], object] | None,
        on_error: OnError,
        failures: Failures,
    ) -> None:
        self._on_leak: Callable[[LeakReport], object] | None = check_callable(on_leak, "on_leak")
        self._on_end: Callable[[LeakReport], object] | None = check_callable(on_end, "on_end")
        self._on_error: OnError = check_choice(on_error, ("log", "raise"), "on_error")
        self._failures = failures
        self.trouble: str | None = None
        """Why no report can be written now; None after one that was."""
        self._path = None if report_dir is None else check_path(report_dir, "report_dir")
        self._directory: ReportDirectory | None = None
        if self._path is not None:
            try:
                self._opened(self._path)
            except OSError as error:  # a disk that is full or read-only: it may be better later
                self._fail("open report_dir", error)

    @property
    def directory(self) -> str | None:
        """Where reports are written, or would be; None when they are not."""
        return None if self._path is None else str(for_process(self._path))

    def _opened(self, path: Path) -> ReportDirectory:
        place = for_process(path)
        if self._directory is None or self._directory.path != place:  # another process, by a fork
            self._directory = ReportDirectory(place)
        return self._directory

    def _fail(self, what: str, error: Exception) -> None:
        self._failures.add(what, error)
        self.trouble = described(error)

    def deliver(self, finding: Finding) -> None:
        """Write, log and announce *finding*; only a new leak and the end of one are announced."""
        finding.log(self.write(finding.report))
        if finding.is_alarm:
            self._announce("on_leak", self._on_leak, finding.report)
        elif finding.is_over:
            self._announce("on_end", self._on_end, finding.report)

    def write(self, report: LeakReport) -> tuple[Path, ...]:
        """Write *report*, and return its files; none where there is no directory, or no room."""
        if self._path is None:
            return ()
        try:
            paths = self._opened(self._path).write(report)
        except Exception as error:  # noqa: BLE001 - reason: a full disk must not end the detector
            self._fail("write report", error)
            return ()
        self.trouble = None
        return paths

    def _announce(
        self, name: str, callback: Callable[[LeakReport], object] | None, report: LeakReport
    ) -> None:
        if callback is None:
            return
        try:
            callback(report)
        except Exception as error:
            self._failures.add(name, error)
            if self._on_error == "raise":
                raise


def diagnose(*, seconds: float = 1.0) -> LeakReport:
    """
    Look at this process for *seconds* and return what its memory is doing.

    Two looks at the heap, a short burst of tracing, the holders of what grew, and a verdict: live
    objects, garbage cycles, fragmentation, native memory, or nothing. Where nothing grew and the
    heap is not large, garbage is collected to see what that gives.

    Blocks the caller for *seconds* and some more; in a coroutine use ``asyncio.to_thread``.
    Thread-safe: yes. Cost: see ``LeakDetector``; the report states its own.

    Args:
        seconds: Between the two looks, 0 to 3600: long enough for the program to do its work.

    Raises:
        ConfigError: *seconds* is out of its range.
        LifecycleError: This is a subinterpreter.
    """
    # Tracing no longer than half of the watching, since the caller waits.
    burst = min(5.0, max(0.25, seconds / 2))
    return LeakDetector(name="diagnose", trace_seconds=burst).check(seconds=seconds)
