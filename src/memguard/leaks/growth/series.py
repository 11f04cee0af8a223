"""A bounded record of a whole run: few points, each the trough of its period. Pure."""

from __future__ import annotations

from typing import NamedTuple

from memguard.errors import ConfigError


class Point(NamedTuple):
    """A level at a time."""

    at: float
    """Seconds, on the caller's clock."""
    value: int
    """Bytes."""


class TroughSeries:
    """
    Keep the troughs of an endless stream of readings in at most *maxsize* points.

    While readings are few, each is a point. When the series is full, neighbours are merged in pairs
    and every later point stands for twice as many readings, so that the series spans the whole
    run at an even resolution: seconds for a test, weeks for a service. A merged point keeps the
    *lowest* of its readings, since garbage waiting for the collector is not growth.

    Bounded by: *maxsize* points.
    Locks: none; one thread adds and reads.
    Keeps alive: numbers only.
    """

    __slots__ = ("_in_bucket", "_points", "_seen", "_stride", "maxsize")

    def __init__(self, maxsize: int) -> None:
        if maxsize < 4:
            raise ConfigError(f"maxsize must be >= 4 points (got {maxsize})")
        self.maxsize = maxsize
        self.clear()

    def clear(self) -> None:
        """Forget everything, as on the first day."""
        self._points: list[Point] = []
        self._stride = 1
        self._in_bucket = 0
        self._seen = 0

    @property
    def seen(self) -> int:
        """Readings added so far, merged ones included."""
        return self._seen

    def add(self, at: float, value: int) -> None:
        """Add a reading; times must not decrease. Cost: O(1) amortised."""
        self._seen += 1
        if 0 < self._in_bucket < self._stride:
            self._in_bucket += 1
            if value <= self._points[-1].value:
                self._points[-1] = Point(at, value)
            return
        if len(self._points) >= self.maxsize:
            self._merge_pairs()
        self._points.append(Point(at, value))
        self._in_bucket = 1

    def _merge_pairs(self) -> None:
        points = self._points
        self._points = [
            min(points[i : i + 2], key=lambda point: point.value) for i in range(0, len(points), 2)
        ]
        self._stride *= 2

    def points(self) -> list[Point]:
        """Return the points, oldest first."""
        return list(self._points)

    @property
    def storage_id(self) -> int:
        """The id of the list that grows: ours, and no leak."""
        return id(self._points)
