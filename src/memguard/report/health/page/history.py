"""The stretch of a guard's history that the page draws. Pure, but for asking the history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from memguard.observe.history import Bucket, History, Hour
from memguard.observe.readings import Reading
from memguard.report.health.page.curve import Point

SpanName = Literal["latest", "day", "weeks"]
SPANS: Mapping[SpanName, str] = {"latest": "Latest", "day": "Day", "weeks": "Weeks"}
"""Stretches of time, and what they are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What memory did over a stretch of time."""

    span: SpanName
    kept: bool
    """False where the guard keeps no history."""
    points: tuple[Point, ...]


def story(history: History | None, span: SpanName, now: Reading, wall: float) -> Story:
    """
    Return the history of one stretch, and *now* as its last point.

    Cost: O(readings) or O(minutes); ``"weeks"`` reads the history's file, where it has one.

    Args:
        history: Where the readings are; None where none are kept.
        span: ``"latest"`` for the single readings, ``"day"`` for minutes, ``"weeks"`` for hours.
        now: The latest reading, on the timer that the history's readings were stamped with.
        wall: The same moment in seconds since the epoch.
    """
    if history is None:
        return Story(span=span, kept=False, points=())
    points: list[Point]
    if span == "latest":
        points = [point for each in history.last() if (point := _of_reading(each, now.at))]
    elif span == "day":
        points = [_of_minute(each, wall) for each in history.minutes()]
    else:
        points = [_of_hour(each, wall) for each in history.hours()]
    # A clock that was set back would put the past into the future.
    points = [point for point in points if point.seconds <= 0]
    last = _of_reading(now, now.at)
    if last is not None:
        run = points[-1].run if points else ""
        points.append(Point(0.0, last.lowest, last.highest, last.level, run))
    return Story(span=span, kept=True, points=tuple(points))


def _of_reading(reading: Reading, now: float) -> Point | None:
    private = reading.private
    if private is None:
        return None
    return Point(reading.at - now, private, private, private)


def _of_minute(minute: Bucket, wall: float) -> Point:
    at = _middle(minute.start, 60, wall)
    return Point(at, minute.lowest, minute.peak, minute.average, minute.run, minute.count)


def _of_hour(hour: Hour, wall: float) -> Point:
    at = _middle(hour.start, 3600, wall)
    return Point(at, hour.lowest, hour.peak, hour.average, hour.run, hour.count)


def _middle(start: int, seconds: int, wall: float) -> float:
    """Return the middle of a stretch, on a clock on which *wall* is 0; that which runs ends now."""
    return start - wall if start > wall else min(0.0, start + seconds / 2 - wall)
