"""
LeakDetector: watch cheap readings and, when memory grows and goes on growing, take evidence.

The thread (``leaks.ticker``) only calls ``tick``. A tick moves the detector through its states:

    idle → watching → tracing → cooling → watching → …

``watching`` costs a reading a tick. At half of the growth that would count a first look at the heap
is taken; at all of it a second look, and ``tracing`` begins. ``cooling`` is the pause after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Self

from memguard.bounded import inventory
from memguard.errors import ConfigError, LifecycleError
from memguard.leaks.checkup import Checkup
from memguard.leaks.delivery import Delivery
from memguard.leaks.evidence.allowance import read_allowance
from memguard.leaks.evidence.heap_state import HeapState
from memguard.leaks.finding.findings import Finding, Findings, summarize
from memguard.leaks.finding.investigate import POLL_SECONDS, Investigation
from memguard.leaks.growth.windows import Watch
from memguard.leaks.options import OnError, chosen_name, detector_options
from memguard.leaks.report import LeakReport
from memguard.leaks.signal_request import SignalRequest
from memguard.leaks.statistics import Account, LeakDetectorStatistics, State
from memguard.leaks.ticker import Ticker, reset_after_fork
from memguard.lifecycle.failures import Failures
from memguard.lifecycle.turn import Turn
from memguard.observe.readings import Reading, read_memory
from memguard.units import parse_bytes


class LeakDetector:
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
            Slower growth counts once *max_samples* readings have gone by.
        min_growth_bytes: Growth below this never counts.
        min_samples: Readings needed before anything is said, 6 to 10000.
        max_samples: Readings kept in full; older ones are thinned out, not forgotten.
        warmup: Seconds from the start that are not judged; None is *min_samples* intervals.
        cooldown: Pause in seconds after a finding; None is 20 intervals (600 s at the default).
        trace_frames: Frames of a stack, 1 to 64, where one frame was cheap.
        trace_seconds: Seconds that tracing may be on for a finding; None is two intervals, from
            1 to 5. It mostly ends much sooner: when enough was seen.
        trace_bytes: Memory of the tracer at which tracing stops; taking it down stalls 12 ms a MiB.
        retention_seconds: Time in seconds for searching the holders' paths.
        max_objects: Heaps with more blocks get no census.
        max_reports: Reports kept in ``reports``.
        limit: Memory this process may use, bytes; ``"auto"`` asks cgroups, rlimits and the host.
        report_dir: Directory for reports (JSON, text and HTML, 0600 in 0700); None writes none.
        on_leak: Called with each new finding, in the detector's thread, outside its lock.
        on_error: What a failing *on_leak* does: ``"log"``, or ``"raise"`` from ``tick``.
        on_signal: A signal, such as ``signal.SIGUSR2``, that asks for a look at once: its report
            is written and logged. The former handler is called, too. None listens to none.
        name: For logs and statistics.
        timer: Monotonic seconds.
        read: Takes a reading; for tests and platforms of your own.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: An option is out of its range, or *report_dir* cannot be used.
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
        on_leak: Callable[[LeakReport], object] | None = None,
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
        for option, value in (("timer", timer), ("read", read)):
            if not callable(value):
                raise TypeError(f"{option} must be callable (got {type(value).__name__})")
        self.name = chosen_name(name)
        self._limit = None if limit == "auto" else parse_bytes(limit, name="limit")
        self._timer = timer
        self._read = read
        self._signal = None if on_signal is None else SignalRequest(on_signal, self._on_signal)
        self._findings = Findings(self.name, max_reports)
        self._account = Account()
        self._failures = Failures("detector.failed", detector=self.name)
        self._delivery = Delivery(report_dir, on_leak, on_error, self._failures)
        self._reset()
        reset_after_fork(self)

    def _reset(self) -> None:
        """Enter the state of one that was never started. Only sets fields: runs after fork."""
        self._turn = Turn()
        self._stop_asked = False
        self._ticker: Ticker | None = None
        self._state: State = "idle"
        self._started_at: float | None = None
        self._watch = Watch(self._options)
        self._investigation: Investigation | None = None
        self._before: HeapState | None = None
        self._begin_at = 0.0
        self._cool_until = 0.0

    # -- life cycle

    def start(self) -> Self:
        """
        Start the thread that ticks every *interval* seconds, and return the detector.

        Raises:
            LifecycleError: It is running already.
            RuntimeError: There is no thread to be had.
        """
        if self._ticker is not None:
            raise LifecycleError(f"detector {self.name!r} is already started; call stop() first")
        self._turn.run(self._end, busy=None, timeout=5.0)
        if self._signal is not None:
            self._signal.open()
        self._ticker = Ticker(self, f"memguard-detector-{self.name}").start()
        self._enter_watching()
        return self

    def _on_signal(self) -> None:
        if self._ticker is not None:
            self._ticker.request()

    def look_on_request(self) -> None:
        """Look now, write the report and log it: what the signal asks for."""
        self._delivery.deliver(Finding(self.check(), is_alarm=False))

    def stop(self, timeout: float = 5.0) -> bool:
        """
        End the thread and any tracing of ours; what was reported stays in ``reports``. Idempotent.

        Args:
            timeout: Seconds to wait for a tick that is under way.

        Returns:
            True when the thread has ended; False when it is still busy after *timeout*.
        """
        if self._signal is not None:
            self._signal.close()
        ticker, self._ticker = self._ticker, None
        ended = ticker.stop(timeout) if ticker is not None else True
        self._stop_asked = True  # a tick under way, perhaps our caller, ends it instead
        self._turn.run(self._end, busy=None, timeout=timeout if ended else 0.0)
        return ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def reports(self) -> tuple[LeakReport, ...]:
        """The latest findings, oldest first, each as of its last update; at most *max_reports*."""
        return self._findings.reports

    def statistics(self) -> LeakDetectorStatistics:
        """Return what was done so far and what it cost. Thread-safe."""
        investigation = self._investigation
        return self._account.statistics(
            self.name,
            self._state,
            failures=self._failures,
            findings=self._findings,
            tracing_now=0.0 if investigation is None else investigation.traced_seconds,
            uptime_seconds=self._uptime(),
            report_dir=self._delivery.directory,
        )

    def _uptime(self) -> float:
        started_at = self._started_at  # once: another thread may be stopping it
        return 0.0 if started_at is None else self._timer() - started_at

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
        done = self._turn.run(self._tick, busy=None)
        if done is None:
            return interval
        finding, state = done
        self._failures.log()
        if finding is not None:
            self._delivery.deliver(finding)
        return min(POLL_SECONDS, interval) if state == "tracing" else interval

    def _tick(self) -> tuple[Finding | None, State]:
        self._stop_asked = False
        started = time.thread_time()
        finding: Finding | None = None
        try:
            self._account.ticks += 1
            if self._state == "idle":
                self._enter_watching()
            finding = self._step(self._timer())
        except Exception as error:  # noqa: BLE001 - reason: law 2, the guard never hurts the host
            self._failures.count_only("tick", error)
            self._abandon()
            self._cool(self._timer())
        finally:
            self._account.cpu_seconds += time.thread_time() - started
            if self._stop_asked:
                self._end()
        return finding, self._state

    def _enter_watching(self) -> None:
        self._state = "watching"
        self._started_at = self._timer()

    def _step(self, now: float) -> Finding | None:
        if self._state == "tracing":
            if self._investigation is not None and not self._investigation.poll():
                return None
            return self._conclude(now)
        reading = self._read()
        if reading.private is None:
            return None
        self._watch.draw(now, reading)
        if self._uptime() < self._options.warmup:
            return None
        self._watch.add(now, reading)
        if self._state == "cooling":
            if now < self._cool_until:
                return None
            self._state = "watching"
        self._judge(now, reading)
        return None

    def _judge(self, now: float, reading: Reading) -> None:
        """Take the first look at half of the growth that counts; begin when it is a leak."""
        trend = self._watch.leak()
        gone = self._watch.misses >= self._options.max_samples
        if gone and self._findings.open_since is not None:
            # A whole window has seen nothing of the leak that was reported: it has ended. Sooner
            # would tell each stair of it anew. What grows from here is another one.
            self._findings.close()
            self._before = self._investigation = None
            self._watch.clear()
        elif self._watch.growth_share() < 0.5:
            self._investigation = None
        elif self._investigation is None:
            self._investigation = Investigation(
                self._options,
                containers=inventory.names,
                headroom=read_allowance(reading, self._limit).left,
                trace=self._findings.wants_tracing,
                before=self._before,
            )
            self._begin_at = now
            if not self._investigation.looked:
                # What the look keeps, and what it loads, is ours and no growth of the program.
                self._watch.pause(now, reading)
                self._investigation.look(now)
                self._watch.resume(self._timer(), self._read())
                self._begin_at = now + 2 * self._options.interval
        elif trend is not None and now >= self._begin_at:
            self._account.investigations += 1
            self._watch.pause(now, reading)
            self._investigation.growth_per_minute = trend.bytes_per_hour / 60
            self._investigation.begin(now, own=self._watch.storage_ids())
            self._state = "tracing"

    def _conclude(self, now: float) -> Finding | None:
        investigation, self._investigation = self._investigation, None
        trend = self._watch.trend
        self._cool(now)
        if investigation is None or trend is None:
            return None
        evidence = investigation.finish()
        self._account.traced_seconds += investigation.traced_seconds
        reading = self._read()
        self._watch.resume(self._timer(), reading)
        curve = self._watch.curve(self._started_at or 0.0)
        finding = self._findings.conclude(
            summarize(trend, read_allowance(reading, self._limit), curve),
            evidence,
            uptime_seconds=self._uptime(),
            traced_seconds=investigation.traced_seconds,
            cpu_seconds=self._account.cpu_seconds,
        )
        if finding.report.kind == "leak":
            self._before = investigation.after  # an update counts from here
        else:
            self._watch.clear()
        return finding

    def check(self, *, seconds: float | None = None) -> LeakReport:
        """
        Look now, whatever the readings say, and return a report of kind ``"snapshot"``.

        It is not a finding: it is not in ``reports``, not written, not announced. Blocks its caller
        for *seconds* and the burst of tracing; in a coroutine use ``asyncio.to_thread``.

        Args:
            seconds: Between the two looks; None is an interval, at most one second.

        Raises:
            ConfigError: *seconds* is not from 0 to 3600.
            LifecycleError: Called from within a tick or check of this detector, by a finalizer.
        """
        gap = min(self._options.interval, 1.0) if seconds is None else seconds
        if not 0 <= gap <= 3600:
            raise ConfigError(f"seconds must be from 0 to 3600 (got {seconds!r})")
        return self._turn.wait(lambda: self._check(gap))

    def _check(self, gap: float) -> LeakReport:
        if self._state == "tracing":
            self._abandon()
            self._state = "watching"
        checkup = Checkup(self._options, self._timer, self._read)
        try:
            evidence = checkup.take(gap)
        finally:
            self._account.traced_seconds += checkup.traced_seconds
            self._account.cpu_seconds += checkup.cpu_seconds
        return self._findings.snapshot(
            summarize(checkup.trend, read_allowance(self._read(), self._limit)),
            evidence,
            uptime_seconds=self._uptime(),
            traced_seconds=checkup.traced_seconds,
            cpu_seconds=checkup.cpu_seconds,
        )

    def _end(self) -> None:
        """Become idle, as if never started; what was reported stays."""
        self._abandon()
        self._watch.clear()
        self._findings.close()
        self._before = None
        self._state = "idle"
        self._started_at = None

    def _cool(self, now: float) -> None:
        self._state = "cooling"
        self._cool_until = now + self._options.cooldown

    def _abandon(self) -> None:
        investigation, self._investigation = self._investigation, None
        if investigation is not None:
            investigation.abandon()
            self._account.traced_seconds += investigation.traced_seconds


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
    """
    # Tracing no longer than half of the watching, for somebody waits.
    burst = min(5.0, max(0.25, seconds / 2))
    return LeakDetector(name="diagnose", trace_seconds=burst).check(seconds=seconds)
