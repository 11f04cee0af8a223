"""The windows of readings that a detector keeps, and the check on every tick: is memory growing?"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from memguard.leaks.growth import trend as trends
from memguard.leaks.growth.series import Point, TroughSeries
from memguard.leaks.growth.trend import Trend
from memguard.leaks.options import DetectorOptions
from memguard.leaks.report import CurvePoint
from memguard.observe.readings import Reading

CURVE_POINTS = 120
"""Points of the curve that goes into a report."""


class Windows:
    """
    Two views of the same readings: the latest ones in full, and the whole run thinned out.

    The first sees a leak that begins after weeks, the second one that takes weeks.

    Bounded by: twice *max_samples* points, and ``CURVE_POINTS`` for drawing.
    Locks: none; the detector's mutex is held around every call.
    Keeps alive: numbers only.
    """

    def __init__(self, options: DetectorOptions) -> None:
        self._options = options
        self._whole = TroughSeries(options.max_samples)
        self._recent: deque[Point] = deque(maxlen=options.max_samples)
        self._curve = TroughSeries(CURVE_POINTS)
        self._own_bytes = self._latest = 0
        self._paused: tuple[float, int] | None = None

    def clear(self) -> None:
        """Begin again: a new baseline."""
        self._whole.clear()
        self._recent.clear()
        self._own_bytes = 0
        self._paused = None

    def draw(self, now: float, reading: Reading) -> None:
        """Add a reading to the curve of the whole run, whether it is judged or not."""
        self._latest = self._level(reading)
        self._curve.add(now, self._latest)

    def curve(self, since: float) -> tuple[CurvePoint, ...]:
        """Return the whole run in few points, in seconds after *since*."""
        return tuple(
            CurvePoint(seconds=round(at - since, 3), bytes=value)
            for at, value in self._curve.points()
        )

    def add(self, now: float, reading: Reading) -> int:
        """Add a reading and return its level; what tracing itself takes is no growth."""
        level = self._level(reading) - self._own_bytes
        self._whole.add(now, level)
        self._recent.append(Point(now, level))
        return level

    @staticmethod
    def _level(reading: Reading) -> int:
        return (reading.private or 0) - (reading.tracer or 0)

    def growth_share(self) -> float:
        """Return the growth so far as a share of what counts: 1.0 asks for statistics. Cheap."""
        shares = []
        for points in self._views():
            if len(points) >= 4:
                baseline, current = trends.levels(points)
                shares.append((current - baseline) / self._options.trend.min_growth_bytes)
        return max(shares, default=0.0)

    @property
    def is_full(self) -> bool:
        """True when a whole window of readings has been seen."""
        return self._whole.seen >= self._options.max_samples

    def trends(self) -> Iterator[Trend]:
        """Yield the trend of each view once growth counts. Cost: up to a millisecond each."""
        if self.growth_share() >= 1.0:
            for points in self._views():
                if len(points) >= self._options.trend.min_samples:
                    yield trends.classify(points, self._options.trend)

    def storage_ids(self) -> set[int]:
        """Return the ids of the containers in which readings are kept."""
        return {self._whole.storage_id, self._curve.storage_id, id(self._recent)}

    def describe(self) -> Trend:
        """Return the trend of the whole run, whatever it is: none, where it has just begun."""
        points = self._whole.points()
        if len(points) < 2:
            return trends.level(points[-1].value if points else self._latest, samples=len(points))
        return trends.classify(points, self._options.trend)

    def _views(self) -> list[list[Point]]:
        views = [self._whole.points()]
        if self._whole.seen > self._options.max_samples:
            views.append(list(self._recent))
        return views

    def pause(self, now: float, reading: Reading) -> None:
        """Remember the level before evidence is taken."""
        self._paused = (now, self._level(reading))

    def resume(self, now: float, reading: Reading, bytes_per_hour: float) -> None:
        """Leave out of later readings what taking evidence has left in the allocators."""
        if self._paused is None:
            return
        before_at, before = self._paused
        self._paused = None
        leaked = max(0.0, bytes_per_hour / 3600 * (now - before_at))
        self._own_bytes += max(0, round(self._level(reading) - before - leaked))
