"""The chart of a report: the curve of memory, the fitted trend, and the limit if near. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.leaks.report import CurvePoint, TrendSummary
from memguard.report.render.html.markup import Markup, join
from memguard.report.render.html.plot import LARGEST, Frame, Step, draw, time_label
from memguard.units import format_bytes

_MOST_POINTS = 200  # a detector gives 120; a file may claim anything
_NEAR = 2.0  # a limit is drawn up to this multiple of the highest level
_FLAT = 1e-6


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line: the level at a time, and its slope in bytes per second."""

    seconds: float
    level: float
    slope: float
    until: float
    """Where it ends, seconds."""

    def at(self, seconds: float) -> float:
        """Return the level at a time."""
        return self.level + self.slope * (seconds - self.seconds)

    @property
    def ends(self) -> list[Step]:
        """Its two ends."""
        return [(self.seconds, self.level), (self.until, self.at(self.until))]


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and which lines are in it."""

    drawing: Markup
    line: Line | None
    limit: int | None


def fitted_line(trend: TrendSummary) -> Line | None:
    """
    Return the trend's slope laid through the curve, or None where there is nothing to lay it on.

    The slope is the trend's own (Theil and Sen's); the intercept is the median of the levels less
    the slope, over the stretch of the curve that the trend was taken from, as is usual with it
    (Conover, Practical Nonparametric Statistics, 1980).
    """
    points = _drawable(trend.curve)
    slope = trend.bytes_per_hour / 3600
    if len(points) < 2 or not math.isfinite(slope) or abs(slope) > LARGEST:
        return None
    end = points[-1][0]
    span = trend.span_seconds if math.isfinite(trend.span_seconds) else 0.0
    judged = [point for point in points if point[0] >= end - span] if span > 0 else []
    judged = judged if len(judged) >= 2 else points
    start = judged[0][0]
    level = statistics.median(size - slope * (at - start) for at, size in judged)
    return Line(start, level, slope, end)


def memory_chart(trend: TrendSummary) -> Chart | None:
    """Return the curve of one report with its trend and limit; None with fewer than two points."""
    points = _drawable(trend.curve)
    if len(points) < 2:
        return None
    line = fitted_line(trend)
    limit = _near_limit(trend, points)
    more = [level for _, level in line.ends] if line is not None else []
    frame = _frame(points, [*more, *([float(limit)] if limit is not None else [])])
    drawing = join(
        frame.area(points),
        frame.line("curve", points),
        None if line is None else frame.line("trend", line.ends),
        frame.limit_line(limit),
    )
    (start, first), (end, last) = points[0], points[-1]
    described = (
        f"Memory of the process from {format_bytes(first)} to {format_bytes(last)} in "
        f"{time_label(end - start)}"
    )
    return Chart(draw(frame, drawing, described, limit=limit), line, limit)


def two_curves(old: TrendSummary, new: TrendSummary) -> Markup | None:
    """Return the curves of two reports over each other; None where one of them has no curve."""
    before, after = _drawable(old.curve), _drawable(new.curve)
    if len(before) < 2 or len(after) < 2:
        return None
    frame = _frame([*before, *after], [])
    lines = join(frame.line("curve old", before), frame.line("curve", after))
    return draw(frame, lines, "Memory of the process in the old report and in the new one")


def _frame(points: Sequence[Step], more: Sequence[float]) -> Frame:
    times = [seconds for seconds, _ in points]
    levels = [*(level for _, level in points), *more]
    return Frame.around(times, levels, flat=_FLAT, from_zero=False)


def _drawable(curve: Sequence[CurvePoint]) -> list[Step]:
    """Return the points that can be drawn, in order of time."""
    known = sorted(
        (point.seconds, float(point.bytes))
        for point in curve
        if math.isfinite(point.seconds)
        and abs(point.seconds) < LARGEST
        and abs(point.bytes) < LARGEST
    )
    if len(known) <= _MOST_POINTS:
        return known
    step = (len(known) - 1) / (_MOST_POINTS - 1)
    return [known[round(n * step)] for n in range(_MOST_POINTS)]


def _near_limit(trend: TrendSummary, points: Sequence[Step]) -> int | None:
    highest = max(level for _, level in points)
    limit = trend.limit_bytes
    if limit is None or highest <= 0 or not 0 < limit <= _NEAR * highest:
        return None
    return limit
