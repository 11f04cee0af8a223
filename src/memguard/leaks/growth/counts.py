"""
Which counts pile up: threads, asyncio tasks, descriptors. Pure: no clock, no I/O.

They have thresholds of their own, since thousands of sockets are no weight: what counts is how many
a healthy process has, and how many the system allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from memguard.leaks.growth import trend as trends
from memguard.leaks.growth.series import Point, TroughSeries
from memguard.leaks.growth.trend import Trend, TrendKind, TrendOptions
from memguard.leaks.options import DetectorOptions
from memguard.observe.readings import Reading

Counted = Literal["threads", "tasks", "descriptors"]

_PAIR = tuple[int, int]
_LEAST: dict[Counted, _PAIR] = {
    "threads": (50, 200),
    "tasks": (500, 2000),
    "descriptors": (250, 1000),
}
"""
Growth that counts: once a whole window of readings has shown it, and as soon as it is certain.

More than a pool of usual size has: a thread pool has tens, a pool of connections a hundred.
"""
_OF_LIMIT: _PAIR = (8, 2)
"""And what part of the limit it is at most, likewise: a limit of 1,024 is not to be reached."""


@dataclass(frozen=True, slots=True)
class CountTrend:
    """What one count is doing. The numbers of *trend* are counts, not bytes."""

    counted: Counted
    trend: Trend
    limit: int | None = None

    @property
    def per_minute(self) -> float:
        """How fast it grows."""
        return self.trend.bytes_per_hour / 60

    @property
    def seconds_to_limit(self) -> float | None:
        """Until it reaches the limit at this rate; None where it never will."""
        pace = self.trend.bytes_per_hour / 3600
        if self.limit is None or pace <= 0:
            return None
        return max(0.0, (self.limit - self.trend.current_bytes) / pace)


def least_growth(counted: Counted, limit: int | None, *, whole_window: bool) -> int:
    """
    Return how much a count must grow to pile up.

    Args:
        counted: What is counted.
        limit: How many the system allows; None where none is known.
        whole_window: A whole window of readings has been seen: then less is enough.
    """
    slow, steep = _LEAST[counted]
    if limit is not None:
        slow, steep = (
            min(n, max(16, limit // part)) for n, part in zip((slow, steep), _OF_LIMIT, strict=True)
        )
    return slow if whole_window else steep


class _Count:
    """The latest counts in full, and those of the whole run thinned out."""

    __slots__ = ("limit", "recent", "whole")

    def __init__(self, max_samples: int) -> None:
        self.whole = TroughSeries(max_samples)
        self.recent: deque[Point] = deque(maxlen=max_samples)
        self.limit: int | None = None

    def views(self) -> Iterable[list[Point]]:
        yield self.whole.points()
        if self.whole.seen > self.whole.maxsize:
            yield list(self.recent)


class Counts:
    """
    The counts of a detector's readings, and which of them pile up.

    Bounded by: twice *max_samples* points for each of three counts.
    Locks: none; the detector's turn is held around every call.
    Keeps alive: numbers only.
    """

    def __init__(
        self, options: DetectorOptions, counted: Iterable[Counted] = get_args(Counted)
    ) -> None:
        self._counted = tuple(counted)
        self._max_samples = options.max_samples
        self._min_samples = options.trend.min_samples
        self._counts: dict[Counted, _Count] = {}
        self.clear()

    def clear(self, *counted: Counted) -> None:
        """Begin again with those *counted*, or with all."""
        for each in counted or self._counted:
            self._counts[each] = _Count(self._max_samples)

    def add(self, now: float, reading: Reading) -> None:
        """Add a reading; what it does not know is left out."""
        self._add("threads", now, reading.threads, None)
        self._add("tasks", now, reading.tasks, None)
        self._add("descriptors", now, reading.open_files, reading.open_files_limit)

    def _add(self, counted: Counted, now: float, value: int | None, limit: int | None) -> None:
        count = self._counts.get(counted)
        if count is not None and value is not None:
            count.whole.add(now, value)
            count.recent.append(Point(now, value))
            count.limit = limit

    def storage_ids(self) -> set[int]:
        """Return the ids of the containers in which counts are kept."""
        kept = self._counts.values()
        return {count.whole.storage_id for count in kept} | {id(count.recent) for count in kept}

    def growth_share(self) -> float:
        """Return the largest growth so far as a share of what counts. Cheap."""
        return max(map(self._share, self._counts), default=0.0)

    def growing(self, least: int | None = None) -> tuple[CountTrend, ...]:
        """
        Return the counts that keep rising, as a trend each. Cost: up to a millisecond each.

        Args:
            least: Growth that counts; None is what counts by itself, see `least_growth`.
        """
        found = (
            self._growing(each, least)
            for each in self._counts
            if least is not None or self._share(each) >= 1.0
        )
        return tuple(each for each in found if each is not None)

    def trend(self, counted: Counted) -> CountTrend | None:
        """Return what one count does, whatever it is; None for less than two readings."""
        count = self._counts[counted]
        points = count.whole.points()
        if len(points) < 2:
            return None
        return CountTrend(counted, trends.classify(points, self._options(counted)), count.limit)

    def _least(self, counted: Counted) -> int:
        count = self._counts[counted]
        is_full = count.whole.seen >= self._max_samples
        return least_growth(counted, count.limit, whole_window=is_full)

    def _options(self, counted: Counted, least: int | None = None) -> TrendOptions:
        growth = self._least(counted) if least is None else least
        return TrendOptions(min_growth_bytes=growth, min_samples=self._min_samples)

    def _share(self, counted: Counted) -> float:
        shares = []
        for points in self._counts[counted].views():
            if len(points) >= 4:
                baseline, current = trends.levels(points)
                shares.append((current - baseline) / self._least(counted))
        return max(shares, default=0.0)

    def _growing(self, counted: Counted, least: int | None) -> CountTrend | None:
        options, count = self._options(counted, least), self._counts[counted]
        for points in count.views():
            if len(points) >= self._min_samples:
                found = trends.classify(points, options)
                if found.kind is TrendKind.LEAK:
                    return CountTrend(counted, found, count.limit)
        return None
