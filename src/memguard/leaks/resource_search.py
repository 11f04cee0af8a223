"""
The search for what piles up beside memory: threads, asyncio tasks, sockets, files.

Their counts are in every reading. At half of the growth that counts a first look is taken; at all
of it a second look, and a burst of tracing shows which lines make them, as for memory.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from memguard.bounded import inventory
from memguard.leaks.evidence.census import HeapState
from memguard.leaks.evidence.gathered import Evidence
from memguard.leaks.finding.compose import verdict_kind
from memguard.leaks.finding.findings import Finding, Findings, summarize
from memguard.leaks.finding.investigate import Investigation
from memguard.leaks.finding.life import Standstill, state_of_growth
from memguard.leaks.finding.resources import LEAST, is_brought_along, resource_signs
from memguard.leaks.growth.counts import Counted, Counts, CountTrend, least_growth
from memguard.leaks.growth.windows import Windows
from memguard.leaks.options import DetectorOptions
from memguard.leaks.report import FindingState, LeakReport, TrendSummary, VerdictKind
from memguard.leaks.senses import Senses, Spent
from memguard.observe.readings import Reading

_COUNTED: dict[VerdictKind, Counted] = {
    "threads": "threads",
    "tasks": "tasks",
    "sockets": "descriptors",
    "files": "descriptors",
}


class ResourceSearch:
    """
    The part of a detector's search that watches one count, for which it has one finding at a time.

    Bounded by: the options' windows and budgets.
    Locks: none; the detector lets one thread at a time call it.
    Keeps alive: numbers; growing containers for the seconds of a burst of tracing.
    """

    def __init__(
        self,
        counted: Counted,
        options: DetectorOptions,
        senses: Senses,
        findings: Findings,
        *,
        spent: Spent,
        windows: Windows,
    ) -> None:
        """
        Prepare a search.

        Args:
            counted: What is counted.
            options: Windows, times and budgets.
            senses: How it sees.
            findings: Where its findings are kept.
            spent: What was done so far, for all searches of the detector.
            windows: The readings of memory: what evidence costs must not count as growth there.
        """
        self.counted: Counted = counted
        self._options = options
        self._senses = senses
        self._findings = findings
        self._spent = spent
        self._windows = windows
        self._counts = Counts(options, [counted])
        self._investigation: Investigation | None = None
        self._growing: CountTrend | None = None
        self._before: HeapState | None = None
        self._still: Standstill | None = None
        self._begin_at = self._cool_until = float("-inf")
        self.is_tracing = False
        """True while evidence is taken: `poll` until it returns True, then `conclude`."""

    @property
    def traced_seconds(self) -> float:
        """Seconds that tracing was on for the evidence that is being taken."""
        investigation = self._investigation  # once: another thread may be ending it
        return 0.0 if investigation is None else investigation.traced_seconds

    def storage_ids(self) -> set[int]:
        """Return the ids of the containers in which counts are kept."""
        return self._counts.storage_ids()

    def rising(self) -> CountTrend | None:
        """Return the count where it rises, however little: it may be why memory grows."""
        return next(iter(self._counts.growing(LEAST)), None)

    @property
    def is_reported(self) -> bool:
        """True while there is a finding of it."""
        return self._findings.going_on is not None

    def explains(self, trend: TrendSummary, evidence: Evidence) -> bool:
        """Return True where memory grows with what is going on here: it was reported already."""
        going_on = self._findings.going_on
        return going_on is not None and verdict_kind(trend, evidence) == going_on.verdict.kind

    # -- watching

    def follow(self, now: float, reading: Reading) -> Finding | None:
        """Add a reading; return the end of what was going on, once its count stands still."""
        self._counts.add(now, reading)
        going_on, still = self._findings.going_on, self._still
        level = None if going_on is None else _level(going_on, reading)
        if going_on is None or still is None or level is None:
            return None
        still.add(now, level)
        if still.was_given_back():
            return self._end(reading, "retracted")
        return self._end(reading, "ended") if still.is_over(now) else None

    def _end(self, reading: Reading, state: Literal["ended", "retracted"]) -> Finding | None:
        self._counts.clear()
        self._before = self._investigation = self._still = None
        return self._findings.end(self._memory(reading), state)

    def watch(self, now: float, reading: Reading, known: LeakReport | None) -> bool:
        """
        Take the first look at half of the growth that counts; begin at all of it.

        Args:
            now: Seconds.
            reading: The latest.
            known: The finding of memory that is going on: what it is about is no news.

        Returns:
            True when evidence is being taken.
        """
        if now < self._cool_until:
            return False
        if self._counts.growth_share() < 0.5:
            self._investigation = None
        elif self._investigation is None:
            self._prepare(now, reading)
        elif now >= self._begin_at:
            growing = next(iter(self._counts.growing()), None)
            if growing is not None and self._is_due(growing, known):
                self._begin(now, reading, growing)
        return self.is_tracing

    def _is_due(self, growing: CountTrend, known: LeakReport | None) -> bool:
        """Return True unless nothing new would come of it."""
        kind = known.verdict.kind if known is not None else "none"
        if self.counted == _COUNTED.get(kind):
            return False
        going_on = self._findings.going_on
        if going_on is None or going_on.state != "suspected":
            return True
        return self._state_of(growing) == "leaking"

    def _state_of(self, count: CountTrend) -> FindingState:
        return state_of_growth(
            count.trend,
            lasted=0.0,
            window=self._options.max_samples * self._options.interval,
            seconds_to_limit=count.seconds_to_limit,
        )

    # -- evidence

    def _prepare(self, now: float, reading: Reading) -> None:
        """Take the first look, unless one is known."""
        self._investigation = investigation = Investigation(
            self._options,
            containers=inventory.names,
            headroom=self._senses.allowance(reading).left,
            before=self._before,
        )
        self._begin_at = now
        if not investigation.looked:
            self._windows.pause(now, reading)
            investigation.look(now)
            self._resume()
            self._begin_at = now + 2 * self._options.interval

    def _begin(self, now: float, reading: Reading, growing: CountTrend) -> None:
        if self._investigation is None:
            return
        self._spent.investigations += 1
        self._growing = growing
        self._windows.pause(now, reading)
        self._investigation.headroom = self._senses.allowance(reading).left
        self._investigation.begin(now, own=self.storage_ids() | self._windows.storage_ids())
        self.is_tracing = True

    def _resume(self) -> None:
        self._windows.resume(self._senses.timer(), self._senses.read(), 0.0)

    def poll(self) -> bool:
        """Look at the burst under way; return True when the evidence is complete."""
        return self._investigation is None or self._investigation.poll()

    def conclude(
        self, now: float, *, uptime_seconds: float, causes: Collection[Counted] = ()
    ) -> Finding | None:
        """
        Return the finding; None where the growth has a bound, or has ended meanwhile.

        Args:
            now: Seconds.
            uptime_seconds: Since the detector's start.
            causes: Counts that rise, too, and may bring this one along: a finding of theirs tells
                of it.
        """
        investigation, self._investigation = self._investigation, None
        growing, self._growing = self._growing, None
        self.is_tracing = False
        self._cool_until = now + self._options.cooldown
        if investigation is None or growing is None:
            return None
        evidence = investigation.finish()
        self._spent.traced_seconds += evidence.traced_seconds
        self._resume()
        evidence.memory_grows, evidence.counts = False, (growing,)
        signs = resource_signs(evidence, ())
        is_bounded = not any(each.piles_up and each.outgrows for each in signs)
        is_known = not self.is_reported and is_brought_along(evidence, causes)
        if is_bounded or is_known:
            # Pools fill, clients come, threads have a socket each: no news, unless it was called a
            # leak before.
            self._counts.clear()
            return None
        finding = self._findings.conclude(
            self._memory(self._senses.read()),
            evidence,
            uptime_seconds=uptime_seconds,
            cpu_seconds=self._spent.cpu_seconds,
            state=self._state_of(growing),
        )
        self._before = investigation.after
        if finding is not None:
            self._confirm(now, finding, growing)
        return finding

    def _confirm(self, now: float, finding: Finding, count: CountTrend) -> None:
        report = finding.report
        if report.state is None:
            return
        if finding.change == "new" or self._still is None:
            self._still = Standstill(
                interval=self._options.interval,
                window=self._options.max_samples * self._options.interval,
                least_growth=least_growth(count.counted, count.limit, whole_window=True),
            )
        elif finding.change == "resumed":
            self._still.paused()
        self._still.confirm(
            now,
            count.trend.current_bytes,
            baseline=count.trend.baseline_bytes,
            bytes_per_hour=count.trend.bytes_per_hour,
            state=report.state,
        )

    def abandon(self) -> None:
        """End any tracing of ours and drop the evidence that is being taken. Idempotent."""
        investigation, self._investigation = self._investigation, None
        self.is_tracing = False
        if investigation is not None:
            investigation.abandon()
            self._spent.traced_seconds += investigation.traced_seconds

    def _memory(self, reading: Reading) -> TrendSummary:
        """Return what memory does meanwhile; its limit is not what comes near."""
        summary = summarize(self._windows.describe(), self._senses.allowance(reading))
        return replace(summary, seconds_to_limit=None)


def _level(report: LeakReport, reading: Reading) -> int | None:
    """Return the count that *report* is about."""
    counted = _COUNTED.get(report.verdict.kind)
    if counted == "threads":
        return reading.threads
    return reading.tasks if counted == "tasks" else reading.open_files
