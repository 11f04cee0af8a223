"""
The life of a finding: suspected, leaking, ended or retracted. Pure: the time is given.

A warm-up grows in a straight line, too, until it is over. What tells a leak from it is that it goes
on: for most of a window of readings, for half of one where it is seen what grows without a bound,
or until the limit is near. What stands still afterwards, as long as that, has ended; what falls
back proves that it was none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from memguard.leaks.evidence import newest
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.growth.trend import Trend
from memguard.leaks.report import RESOURCES, FindingState, Holder, LeakReport

LASTING = 2 / 3
"""Share of a window for which growth must go on to be a leak."""
CLEAR = 1 / 2
"""Likewise where it is seen what grows, and nothing bounds it."""
WORTH_A_LOOK = 1 / 3
"""Share of a window after which slow growth, too, is looked at."""
EXPLAINS = 0.5
"""Share of the growth that must be seen for that."""
ENDED = 0.75
"""Share of a window without growth at which a leak has ended."""
DOUBT = 1 / 3
"""Share of a window without growth at which a suspicion has ended."""
STILL = 0.15
"""Of the pace that was reported: what grows by less stands still."""
SAME_PACE = 0.5
"""Of the pace that was reported: what grows by as much goes on as before."""
LEAST_RISE = 1 / 8
"""Of the growth that counts: a smaller rise is noise."""
GIVEN_BACK = 0.25
"""Share of the growth at which, when no more is left, it was given back."""
TROUGH = 5
"""Readings of which the lowest is the level: garbage that waits is no growth."""
MOST_PATIENCE = 16
"""Times that a window may become longer for a leak that has paused before."""


def state_of_growth(
    trend: Trend,
    *,
    lasted: float,
    window: float,
    seconds_to_limit: float | None,
    whole_window: bool = False,
    clear: bool = False,
) -> FindingState:
    """
    Return whether growth that the evidence calls a leak is one yet: ``leaking`` or ``suspected``.

    Args:
        trend: Of the readings.
        lasted: Seconds for which it is known to grow, before what *trend* covers, too.
        window: Seconds that a whole window of readings takes.
        seconds_to_limit: At its pace; None where there is no limit.
        whole_window: A whole window was seen: what rises in most of it has lasted.
        clear: It is seen what grows, and nothing bounds it: see `is_clear`.
    """
    enough = CLEAR if clear else LASTING
    if whole_window or max(trend.rising_seconds, lasted) >= enough * window:
        return "leaking"
    # No time to see whether it ends by itself.
    return "leaking" if seconds_to_limit is not None and seconds_to_limit < window else "suspected"


def is_clear(report: LeakReport) -> bool:
    """
    Return True where it was seen what grows, and nothing bounds it.

    It has a name, or nothing in Python can let go of it; and it explains most of the growth. A
    warm-up looks like that, too, but mostly has a bound of its own, or slows down.
    """
    if report.verdict.kind not in ("live_objects", "extension", *RESOURCES):
        return False
    held = sum(
        holder.bytes_per_minute or 0.0
        for holder in report.holders
        if (holder.anchored or report.verdict.kind == "extension")
        and holder.allows is None
        and holder.inventory_name is None
    )
    return held > 0 and held >= EXPLAINS * report.trend.bytes_per_hour / 60


def holds_more(
    reported: Iterable[Holder], seen: Iterable[HolderEvidence], *, pace: float | None = None
) -> bool:
    """Return True where a *reported* holder is *seen* to grow on, at *pace* of what it had."""
    least = STILL if pace is None else pace
    paces = {holder.path: holder.entries_per_minute for holder in reported}
    return any(
        holder.steady and holder.entries_per_minute > least * paces[holder.path]
        for holder in seen
        if holder.path in paces
    )


def instances_of(reported: Iterable[Holder], evidence: Evidence) -> list[HolderEvidence]:
    """Return the *reported* instances as two looks have counted their type: nothing was traced."""
    counted = {name: (count, added) for name, count, added in evidence.all_types}
    minutes = evidence.gap_seconds / 60
    found = []
    for holder in reported:
        if holder.unit != "instances" or holder.type not in counted or minutes <= 0:
            continue
        count, added = counted[holder.type]
        found.append(
            HolderEvidence(
                type=holder.type,
                path=holder.path,
                anchored=holder.anchored,
                inventory_name=holder.inventory_name,
                bound=holder.bound,
                entries=count,
                entries_added=added,
                entries_per_minute=added / minutes,
                sample=newest.Sample(),
                steady=True,
                unit="instances",
            )
        )
    return found


def grown_on(reported: Iterable[Holder], seen: Iterable[HolderEvidence]) -> tuple[Holder, ...]:
    """Return the *reported* holders with the entries that they were *seen* to have later."""
    entries = {holder.path: holder.entries for holder in seen if holder.steady}
    return tuple(_with_entries(each, entries.get(each.path, each.entries)) for each in reported)


def _with_entries(holder: Holder, entries: int) -> Holder:
    added = holder.entries_added + max(0, entries - holder.entries)
    weight = holder.bytes_per_entry
    return replace(
        holder,
        entries=max(entries, holder.entries),
        entries_added=added,
        bytes_added=holder.bytes_added if weight is None else weight * added,
    )


class Standstill:
    """
    Notice when growth that was reported is over.

    It goes on while the level reaches new heights, each a step above the last. A step is what the
    reported pace makes in a window, times ``STILL``; for a slow leak it is at least what is no
    noise, and the time allowed for it is as much longer.

    Bounded by: ``TROUGH`` levels.
    Locks: none; one thread.
    Keeps alive: numbers only.
    """

    def __init__(self, *, interval: float, window: float, least_growth: int) -> None:
        """
        Prepare for growth that begins with `confirm`.

        Args:
            interval: Seconds between readings.
            window: Seconds that a whole window of readings takes.
            least_growth: Bytes of growth that count.
        """
        self._window = window
        self._least = max(1.0, LEAST_RISE * least_growth)
        self._lag = TROUGH * interval
        self._levels: deque[int] = deque(maxlen=TROUGH)
        self._baseline = self._highest = 0
        self._since = 0.0
        self._step = self._least
        self._patience = window
        self._pauses = 1.0

    def confirm(
        self, now: float, level: int, *, baseline: int, bytes_per_hour: float, state: FindingState
    ) -> None:
        """
        Take note that the growth goes on.

        Args:
            now: Seconds.
            level: Bytes, now.
            baseline: The level from which it has grown.
            bytes_per_hour: Its pace.
            state: ``suspected`` or ``leaking``.
        """
        pace = max(0.0, bytes_per_hour) / 3600
        if state == "suspected":
            self._patience = DOUBT * self._window
            self._step = max(self._least, STILL * pace * self._patience)
        else:
            window = ENDED * self._window
            self._step = max(self._least, STILL * pace * window)
            self._patience = max(window, self._step / (STILL * pace)) if pace else window
        self._baseline = baseline
        self._highest = max(self._highest, level)
        self._since = now

    def add(self, now: float, level: int) -> None:
        """Add a reading."""
        self._levels.append(level)
        trough = min(self._levels)
        if trough >= self._highest + self._step:
            self._highest = trough
            self._since = now

    def go_on(self, now: float) -> None:
        """Take note that it grows though the level stands still, as a holder shows."""
        self._since = now
        self.paused()

    def paused(self) -> None:
        """Wait twice as long from now on: it has stood still before, and went on."""
        self._pauses = min(2 * self._pauses, MOST_PATIENCE)

    def is_near(self, now: float) -> bool:
        """Return True when half of the time for it is over."""
        return now - self._since >= self._lag + self._pauses * self._patience / 2

    def is_over(self, now: float) -> bool:
        """Return True when the level has stood still for long enough."""
        return now - self._since >= self._lag + self._pauses * self._patience

    def was_given_back(self) -> bool:
        """Return True when next to nothing is left of the growth."""
        grown = self._highest - self._baseline
        is_low = len(self._levels) == TROUGH and grown > 0
        return is_low and max(self._levels) <= self._baseline + GIVEN_BACK * grown
