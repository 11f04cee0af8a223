"""
The search for a leak: from cheap readings to evidence, when memory keeps growing.

A reading a tick while ``watching``. At half of the growth that would count a first look at the heap
is taken; at all of it a second look, and ``tracing`` begins. ``cooling`` is the pause after it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from memguard.bounded import inventory
from memguard.leaks.evidence import garbage
from memguard.leaks.evidence.census import HeapState
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.finding.findings import Finding, Findings, summarize
from memguard.leaks.finding.investigate import POLL_SECONDS, Investigation
from memguard.leaks.finding.judge import leak_among
from memguard.leaks.finding.life import (
    DOUBT,
    SAME_PACE,
    WORTH_A_LOOK,
    Standstill,
    holds_more,
    instances_of,
    is_clear,
    state_of_growth,
)
from memguard.leaks.growth.counts import Counted, CountTrend
from memguard.leaks.growth.trend import Trend
from memguard.leaks.growth.windows import Windows
from memguard.leaks.holders import paths
from memguard.leaks.options import DetectorOptions
from memguard.leaks.report import FindingState, LeakReport, TrendSummary
from memguard.leaks.resource_search import ResourceSearch
from memguard.leaks.senses import Senses, Spent
from memguard.leaks.statistics import State
from memguard.observe import allocator
from memguard.observe.headroom import Allowance
from memguard.observe.readings import Reading

REST = 5
"""Readings between the look at a suspicion and the next: none is taken before it is decided."""
READINGS = 9
"""Between two looks on demand: enough to separate growth from what a request holds for a moment."""


class Search:
    """
    One run of a detector, from its start to its stop.

        watching → tracing → cooling → watching → …

    Bounded by: the options' windows and budgets.
    Locks: none; the detector lets one thread at a time call it.
    Keeps alive: numbers; growing containers for the seconds of a burst of tracing.
    """

    def __init__(
        self,
        options: DetectorOptions,
        senses: Senses,
        findings: Findings,
        resources: Mapping[Counted, Findings],
        spent: Spent,
    ) -> None:
        """
        Prepare a search.

        Args:
            options: Windows, times and budgets.
            senses: How it sees.
            findings: Where findings about memory are kept.
            resources: And those about threads, tasks, and descriptors.
            spent: What was done so far, earlier searches included.
        """
        self._options = options
        self._senses = senses
        self._findings = findings
        self._spent = spent
        self._windows = Windows(options)
        self._resources = tuple(
            ResourceSearch(counted, options, senses, kept, spent=spent, windows=self._windows)
            for counted, kept in resources.items()
        )
        self._investigation: Investigation | None = None
        self._is_closing = False
        self._late: tuple[HolderEvidence, ...] = ()
        self._late_seconds = 0.0
        self._before: HeapState | None = None
        self._trend: Trend | None = None
        self._growing_since: float | None = None
        self._misses = 0
        self._still = self._new_standstill()
        self._begin_at = self._cool_until = 0.0
        self._started_at = self._now = senses.timer()
        self.state: State = "watching"

    @property
    def _window(self) -> float:
        """Seconds that a whole window of readings takes."""
        return self._options.max_samples * self._options.interval

    def _new_standstill(self) -> Standstill:
        return Standstill(
            interval=self._options.interval,
            window=self._window,
            least_growth=self._options.trend.min_growth_bytes,
        )

    @property
    def uptime(self) -> float:
        """Seconds since it began."""
        return self._senses.timer() - self._started_at

    @property
    def traced_seconds(self) -> float:
        """Seconds that tracing was on for the evidence that is being taken."""
        investigation = self._investigation  # once: another thread may be ending it
        own = 0.0 if investigation is None else investigation.traced_seconds
        return own + sum(each.traced_seconds for each in self._resources)

    def step(self) -> Finding | None:
        """Take a reading, or a look at the burst under way, and act on it."""
        self._now = now = self._senses.timer()
        if self.state == "tracing":
            tracing = next((each for each in self._resources if each.is_tracing), None)
            if tracing is not None:
                return self._conclude_resources(tracing)
            if self._investigation is not None and not self._investigation.poll():
                return None
            return self._conclude()
        reading = self._senses.read()
        if reading.private is None:
            return None
        self._windows.draw(now, reading)
        if self.uptime < self._options.warmup:
            return None
        level = self._windows.add(now, reading)
        # One end a reading: another one's count stands still at the next one, too.
        ends = (each.follow(now, reading) for each in self._resources)
        over = next(filter(None, ends), None) or self._follow(now, reading, level)
        if over is None:
            if self.state == "cooling" and now >= self._cool_until:
                self.state = "watching"
            if self.state == "watching":
                self._watch(now, reading)
            self._watch_resources(now, reading)
        return over

    def _watch_resources(self, now: float, reading: Reading) -> None:
        for each in self._resources:
            if self.state != "tracing" and each.watch(now, reading, self._findings.going_on):
                self.state = "tracing"

    def _conclude_resources(self, tracing: ResourceSearch) -> Finding | None:
        if not tracing.poll():
            return None
        self.state = "cooling"  # until memory may be looked at, which is another matter
        before = self._resources[: self._resources.index(tracing)]
        return tracing.conclude(
            self._now,
            uptime_seconds=self.uptime,
            causes=[each.counted for each in before if each.is_reported or each.rising()],
        )

    def _rising(self) -> tuple[CountTrend, ...]:
        """Return the counts that rise, however little."""
        found = (each.rising() for each in self._resources)
        return tuple(count for count in found if count is not None)

    def _follow(self, now: float, reading: Reading, level: int) -> Finding | None:
        """Return the end of what is going on, once it has stood still or was given back."""
        going_on, still = self._findings.going_on, self._still
        if going_on is None:
            return None
        still.add(now, level)
        if still.was_given_back():
            return self._end(reading, "retracted")
        if not still.is_near(now):
            self._is_closing, self._late = False, ()
        elif still.is_over(now):
            is_closing, self._is_closing = self._is_closing, False
            # A level may stand still while what was freed before is filled again, by us perhaps.
            if is_closing and holds_more(
                going_on.holders, self._look_at_holders(going_on, now, reading)
            ):
                still.go_on(now)
                return None
            return self._end(reading, "ended")
        elif not self._is_closing and going_on.holders:
            self._is_closing = True
            self._late = self._look_at_holders(going_on, now, reading)
            # The level may stand still where what a look has freed is filled again.
            if self._goes_on(going_on, reading):
                return self._go_on(reading)
        return None

    def _goes_on(self, going_on: LeakReport, reading: Reading) -> bool:
        """Return True for a suspicion whose holders grow as before, for long enough by now."""
        trend = self._trend
        return (
            going_on.state == "suspected"
            and trend is not None
            and is_clear(going_on)
            and holds_more(going_on.holders, self._late, pace=SAME_PACE)
            and self._state_of(trend, self._senses.allowance(reading), clear=True) == "leaking"
        )

    def _go_on(self, reading: Reading) -> Finding | None:
        finding = self._findings.go_on(
            self._summary(reading), self._late, seconds=self._late_seconds
        )
        self._is_closing, self._late = False, ()
        if finding is not None:
            self._confirm(finding, "leaking")
        return finding

    def _summary(self, reading: Reading) -> TrendSummary:
        return summarize(
            self._windows.describe(),
            self._senses.allowance(reading),
            self._windows.curve(self._started_at),
        )

    def _look_at_holders(
        self, going_on: LeakReport, now: float, reading: Reading
    ) -> tuple[HolderEvidence, ...]:
        """Return what has grown since the last look; the next counts from here."""
        investigation = Investigation(
            self._options,
            containers=inventory.names,
            headroom=self._senses.allowance(reading).left,
            trace=False,
            before=self._before,
        )
        self._windows.pause(now, reading)
        try:
            investigation.begin(now, own=self._storage_ids())
            self._before = investigation.after
            evidence = investigation.finish()
            found = (*evidence.holders, *instances_of(going_on.holders, evidence))
            self._late_seconds = evidence.gap_seconds
        finally:
            investigation.abandon()
        self._resume(self._senses.read(), pace=0.0)
        return found

    def _end(self, reading: Reading, state: Literal["ended", "retracted"]) -> Finding | None:
        finding = self._findings.end(self._summary(reading), state, seen=self._late)
        self._before = self._investigation = None
        self._is_closing, self._late = False, ()
        self._begin_anew()
        return finding

    def _watch(self, now: float, reading: Reading) -> None:
        """Take the first look at half of the growth that counts; begin when it is a leak."""
        windows, options = self._windows, self._options
        trend = leak_among(
            windows.trends(),
            options.trend,
            whole_window=windows.is_full,
            enough_seconds=WORTH_A_LOOK * self._window,
        )
        self._misses = 0 if trend is not None else self._misses + 1
        self._trend = trend or self._trend
        if trend is not None:
            since = now - trend.rising_seconds
            self._growing_since = min(since, self._growing_since or since)
        elif self._misses >= DOUBT * options.max_samples:
            self._growing_since = None
        if windows.growth_share() < 0.5:
            self._investigation = None
        elif self._investigation is None:
            self._prepare(now, reading)
        elif trend is not None and now >= self._begin_at and self._is_due(trend, reading):
            self._spent.investigations += 1
            windows.pause(now, reading)
            self._investigation.headroom = self._senses.allowance(reading).left
            self._investigation.growth_per_minute = trend.bytes_per_hour / 60
            self._investigation.begin(now, own=self._storage_ids())
            self.state = "tracing"

    def _storage_ids(self) -> set[int]:
        return self._windows.storage_ids().union(*(r.storage_ids() for r in self._resources))

    def _is_due(self, trend: Trend, reading: Reading) -> bool:
        """Return True unless there is a suspicion already that a look would not decide."""
        going_on = self._findings.going_on
        if going_on is None or going_on.state != "suspected":
            return True
        allowance, clear = self._senses.allowance(reading), is_clear(going_on)
        return self._state_of(trend, allowance, clear=clear) == "leaking"

    def _state_of(self, trend: Trend, allowance: Allowance, *, clear: bool) -> FindingState:
        since = self._growing_since
        return state_of_growth(
            trend,
            lasted=0.0 if since is None else self._now - since,
            window=self._window,
            whole_window=self._windows.is_full,
            seconds_to_limit=allowance.seconds_left(trend.bytes_per_hour),
            clear=clear,
        )

    def _begin_anew(self) -> None:
        self._windows.clear()
        self._trend = None
        self._misses = 0

    def _prepare(self, now: float, reading: Reading) -> None:
        """Take the first look, unless one is known."""
        self._investigation = investigation = Investigation(
            self._options,
            containers=inventory.names,
            headroom=self._senses.allowance(reading).left,
            trace=self._findings.wants_tracing,
            before=self._before,
        )
        self._begin_at = now
        if not investigation.looked:
            # What the look keeps, and what it loads, is ours and no growth of the program.
            self._windows.pause(now, reading)
            investigation.look(now)
            self._resume(self._senses.read())
            self._begin_at = now + 2 * self._options.interval

    def _resume(self, reading: Reading, *, pace: float | None = None) -> None:
        if pace is None:
            pace = 0.0 if self._trend is None else self._trend.bytes_per_hour
        self._windows.resume(self._senses.timer(), reading, pace)

    def _conclude(self) -> Finding | None:
        investigation, self._investigation = self._investigation, None
        self.cool()
        trend = self._trend
        if investigation is None or trend is None:
            return None
        evidence = investigation.finish()
        self._spent.traced_seconds += evidence.traced_seconds
        reading = self._senses.read()
        self._resume(reading)
        evidence.counts = self._rising()
        allowance = self._senses.allowance(reading)
        summary = summarize(trend, allowance, self._windows.curve(self._started_at))
        is_known = any(each.explains(summary, evidence) for each in self._resources)
        if self._findings.going_on is None and is_known:
            self._before = None
            self._begin_anew()
            return None
        finding = self._findings.conclude(
            summary,
            evidence,
            uptime_seconds=self.uptime,
            cpu_seconds=self._spent.cpu_seconds,
            state=self._state_of(trend, allowance, clear=False),
            state_if_clear=self._state_of(trend, allowance, clear=True),
        )
        going_on = self._findings.going_on
        if going_on is None or going_on.state is None:
            self._before = None
            self._begin_anew()
            return finding
        self._before = investigation.after  # an update counts from here
        if finding is not None:
            self._confirm(finding, going_on.state)
        if going_on.state == "suspected":
            self._cool_until = min(self._cool_until, self._now + REST * self._options.interval)
        return finding

    def _confirm(self, finding: Finding, state: FindingState) -> None:
        """Take note that what is going on was seen to."""
        if finding.change == "new":
            self._still = self._new_standstill()
        elif finding.change == "resumed":
            self._still.paused()
        trend = finding.report.trend
        self._still.confirm(
            self._now,
            trend.current_bytes,
            baseline=trend.baseline_bytes,
            bytes_per_hour=trend.bytes_per_hour,
            state=state,
        )

    def cool(self) -> None:
        """Take no evidence for a while."""
        self.state = "cooling"
        self._cool_until = self._now + self._options.cooldown

    def abandon(self) -> None:
        """End any tracing of ours and drop the evidence that is being taken. Idempotent."""
        investigation, self._investigation = self._investigation, None
        for each in self._resources:
            each.abandon()
        if investigation is not None:
            investigation.abandon()
            self._spent.traced_seconds += investigation.traced_seconds
        if self.state == "tracing":
            self.state = "watching"


def prepare() -> None:
    """
    Import what evidence needs, here and now: a search itself is to import nothing.

    A fork must not meet an import half done; and what is imported between two looks would be
    reported as growth of the program.
    """
    nothing: list[Any] = [[], (), set(), frozenset(), {}, "", iter(()), map(str, ())]
    for entries in (*nothing, (each for each in range(0))):
        Counter(entries)  # asks whether that is a mapping: an ABC remembers the types it was asked
    allocator.prepare()
    garbage.prepare()
    paths.prepare()


def look_now(
    options: DetectorOptions, senses: Senses, spent: Spent, *, gap: float
) -> tuple[Trend, Evidence]:
    """
    Return what memory does in *gap* seconds and the evidence of a look before and after.

    Blocks the calling thread, for the burst of tracing, too.
    """
    prepare()
    windows = Windows(options)
    pause = threading.Event()
    timer, read = senses.timer, senses.read
    investigation = Investigation(
        options, containers=inventory.names, headroom=senses.allowance(read()).left
    )
    try:
        investigation.look(timer())  # first: what it keeps is no growth
        windows.add(timer(), read())
        for _ in range(READINGS - 1):
            pause.wait(gap / (READINGS - 1))
            windows.add(timer(), read())
        investigation.begin(timer())
        while not investigation.poll():
            pause.wait(POLL_SECONDS)
        evidence = investigation.finish()
    finally:
        investigation.abandon()
        spent.traced_seconds += investigation.traced_seconds
    return windows.describe(), evidence
