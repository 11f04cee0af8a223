"""
The memory curve: a part of a guard's history and its drawing. Pure, except for reading it.

However long the history is, a bounded number of points is drawn, and the highest and lowest reading
of each stretch stay visible. Where nothing was read, there is a gap.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from memguard.observe.history import Bucket, History, Hour
from memguard.observe.readings import Reading
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.plot import LARGEST, Frame, draw, time_label
from memguard.units import format_bytes, format_seconds

SpanName = Literal["latest", "day", "weeks"]
SPANS: Mapping[SpanName, str] = {"latest": "Latest", "day": "Day", "weeks": "Weeks"}
"""Stretches of time, and what they are called."""
MOST_COLUMNS = 180
"""Points of a curve; a telephone has hardly more pixels."""
_NEAR = 2.5
"""A ceiling is drawn up to this multiple of the highest level; further up it flattens the curve."""
_GAP_STEPS = 6.0
_FLAT = 0.02


@dataclass(frozen=True, slots=True)
class Point:
    """Memory over a stretch of time. Bytes."""

    seconds: float
    """When, on a clock on which now is 0: negative, in the past."""
    lowest: float
    highest: float
    level: float
    """The mean."""
    run: str = ""
    """The run of the program that it belongs to; no line is drawn from one run to another."""
    weight: int = 1
    """Readings in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryHistory:
    """What memory did over a stretch of time."""

    span: SpanName
    kept: bool
    """False if the guard keeps no history."""
    points: tuple[Point, ...]


def memory_history(
    history: History | None, span: SpanName, now: Reading, wall: float
) -> MemoryHistory:
    """
    Return the history of one stretch, and *now* as its last point.

    Cost: O(readings) or O(minutes); ``"weeks"`` reads the history's file, if it has one.

    Args:
        history: Where the readings are; None if none are kept.
        span: ``"latest"`` for the single readings, ``"day"`` for minutes, ``"weeks"`` for hours.
        now: The latest reading, on the timer that the history's readings were stamped with.
        wall: The same moment in seconds since the epoch.
    """
    if history is None:
        return MemoryHistory(span=span, kept=False, points=())
    points: list[Point]
    if span == "latest":
        points = [point for each in history.last() if (point := _of_reading(each, now.at))]
    elif span == "day":
        points = [_rolled_up(each, 60, wall) for each in history.minutes()]
    else:
        points = [_rolled_up(each, 3600, wall) for each in history.hours()]
    # A clock that was set back would put the past into the future.
    points = [point for point in points if point.seconds <= 0]
    last = _of_reading(now, now.at)
    if last is not None:
        run = points[-1].run if points else ""
        points.append(Point(0.0, last.lowest, last.highest, last.level, run))
    return MemoryHistory(span=span, kept=True, points=tuple(points))


def _of_reading(reading: Reading, now: float) -> Point | None:
    private = reading.private
    return None if private is None else Point(reading.at - now, private, private, private)


def _rolled_up(found: Bucket | Hour, seconds: int, wall: float) -> Point:
    """Return the middle of a stretch, on a clock on which *wall* is 0; that which runs ends now."""
    start = found.start
    at = start - wall if start > wall else min(0.0, start + seconds / 2 - wall)
    return Point(at, found.lowest, found.peak, found.average, found.run, found.count)


@dataclass(frozen=True, slots=True)
class Curve:
    """A drawing and what it shows."""

    drawing: Markup
    has_range: bool
    """True if the lowest and highest of a stretch differ."""
    has_ceiling: bool


def memory_curve(points: Iterable[Point], ceiling: float | None) -> Curve | None:
    """
    Return the curve of *points*, in any order; None with fewer than two moments.

    Args:
        points: What was read.
        ceiling: What this process can reach before its limit, bytes; drawn if it is near.
    """
    known = _drawable(points)
    if len(known) < 2 or known[-1].seconds - known[0].seconds < 0.1:
        return None
    drawn = columns(known)
    stretches = _stretches(drawn, longest=_longest_step(known))
    lines = [[(point.seconds, point.level) for point in stretch] for stretch in stretches]
    highest = max(point.highest for point in drawn)
    if ceiling is not None and not 0 < ceiling <= max(_NEAR * highest, 1.0):
        ceiling = None
    frame = Frame.around(
        [point.seconds for point in drawn],
        [min(point.lowest for point in drawn), max(highest, ceiling or highest)],
        flat=_FLAT,
        from_zero=ceiling is not None,
    )
    has_range = any(point.highest - point.lowest > 0 for point in drawn)
    drawing = join(
        *(_band(frame, stretch) for stretch in stretches if has_range and len(stretch) > 1),
        *(frame.area(line) for line in lines),
        *(frame.line("curve", line) for line in lines),
        frame.limit_line(ceiling),
    )
    first, last = drawn[0], drawn[-1]
    described = (
        f"Private memory of the process in the last {format_seconds(-first.seconds)}: from "
        f"{format_bytes(first.level)} to {format_bytes(last.level)}, at most "
        f"{format_bytes(highest)}"
    )
    svg = draw(frame, drawing, described, limit=ceiling, time_text=_time_text)
    return Curve(svg, has_range, ceiling is not None)


def _time_text(seconds: float) -> str:
    return "now" if seconds == 0 else time_label(seconds).replace("-", "\u2212")


def _band(frame: Frame, points: Sequence[Point]) -> Markup:
    above = frame.path((point.seconds, point.highest) for point in points)
    below = frame.path((point.seconds, point.lowest) for point in reversed(points))
    return element("path", class_="range", d=f"{above}L{below[1:]}Z")


def columns(points: Sequence[Point]) -> list[Point]:
    """Return *points*, which are in order, as at most ``MOST_COLUMNS`` columns of equal length."""
    if len(points) <= MOST_COLUMNS:
        return list(points)
    first, last = points[0].seconds, points[-1].seconds
    length = max((last - first) / MOST_COLUMNS, 1e-9)
    found: dict[int, list[Point]] = {}
    for point in points:
        number = min(int((point.seconds - first) / length), MOST_COLUMNS - 1)
        found.setdefault(number, []).append(point)
    return [_merged(column) for column in found.values()]


def _merged(column: Sequence[Point]) -> Point:
    weight = sum(point.weight for point in column)
    return Point(
        # The last of all is where the curve ends: now.
        seconds=column[-1].seconds,
        lowest=min(point.lowest for point in column),
        highest=max(point.highest for point in column),
        level=sum(point.level * (point.weight / weight) for point in column),
        run=column[-1].run,
        weight=weight,
    )


def _drawable(points: Iterable[Point]) -> list[Point]:
    known = [
        point
        for point in points
        if all(
            math.isfinite(number) and abs(number) < LARGEST
            for number in (point.seconds, point.lowest, point.highest, point.level)
        )
        and point.lowest <= point.level <= point.highest
        and point.weight > 0
    ]
    known.sort(key=lambda point: point.seconds)
    return known


def _longest_step(points: Sequence[Point]) -> float:
    """Return the seconds without a reading from which on there is a gap."""
    steps = [after.seconds - before.seconds for before, after in itertools.pairwise(points)]
    column = (points[-1].seconds - points[0].seconds) / MOST_COLUMNS
    return max(_GAP_STEPS * statistics.median(steps), 2.5 * column, 1e-3)


def _stretches(points: Sequence[Point], *, longest: float) -> list[list[Point]]:
    """Return *points* cut where nothing was read for long, and between runs of the program."""
    found = [[points[0]]]
    for before, after in itertools.pairwise(points):
        if after.seconds - before.seconds > longest or after.run != before.run:
            found.append([])
        found[-1].append(after)
    return found
