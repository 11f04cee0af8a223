"""
Memory over time as inline SVG: the curve, the fitted trend, and the limit when it is near.

Pure, and safe on any numbers. The drawing is stretched to the width of the page; its text is placed
in percent and therefore keeps its size on a telephone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from memguard.leaks.report import CurvePoint, TrendSummary
from memguard.report.render.html.markup import Markup, element, join
from memguard.units import format_bytes

HEIGHT = 240
_TOP, _BOTTOM = 22, 212  # of the plot; the times stand below it
_WIDTH = 1000  # of the stretched drawing, in units of its own
_LARGEST = 1e18  # beyond an exbibyte or 30 billion years nothing is drawn
_MOST_POINTS = 200  # a detector gives 120; a file may claim anything
_NEAR = 2.0  # a limit is drawn up to this multiple of the highest level

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TIMES = (
    *(1, 2, 5, 10, 15, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 4, 6, 12)),
    *(n * _DAY for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)


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


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and which lines are in it."""

    drawing: Markup
    line: Line | None
    limit: int | None


@dataclass(frozen=True, slots=True)
class _Frame:
    """The part of the plane that is shown."""

    left: float
    right: float
    low: float
    high: float

    def x(self, seconds: float) -> float:
        """Return a share of the width, 0 to 1."""
        return (seconds - self.left) / (self.right - self.left)

    def y(self, level: float) -> float:
        """Return pixels from the top."""
        return _BOTTOM - (level - self.low) / (self.high - self.low) * (_BOTTOM - _TOP)


def fitted_line(trend: TrendSummary) -> Line | None:
    """
    Return the trend's slope laid through the curve, or None where there is nothing to lay it on.

    The slope is the trend's own (Theil and Sen's); the intercept is the median of the levels less
    the slope, over the stretch of the curve that the trend was taken from, as is usual with it
    (Conover, Practical Nonparametric Statistics, 1980).
    """
    points = _drawable(trend.curve)
    slope = trend.bytes_per_hour / 3600
    if len(points) < 2 or not math.isfinite(slope) or abs(slope) > _LARGEST:
        return None
    end = points[-1].seconds
    span = trend.span_seconds if math.isfinite(trend.span_seconds) else 0.0
    judged = [point for point in points if point.seconds >= end - span] if span > 0 else []
    judged = judged if len(judged) >= 2 else points
    start = judged[0].seconds
    level = statistics.median(p.bytes - slope * (p.seconds - start) for p in judged)
    return Line(start, level, slope, end)


def memory_chart(trend: TrendSummary) -> Chart | None:
    """Return the curve of one report with its trend and limit; None with fewer than two points."""
    points = _drawable(trend.curve)
    if len(points) < 2:
        return None
    line = fitted_line(trend)
    limit = _near_limit(trend, points)
    frame = _frame([points], line, limit)
    area = join(
        element(
            "path",
            class_="area",
            d=_path(frame, points) + f"L{_x(frame, points[-1]):.1f} {_BOTTOM}"
            f"L{_x(frame, points[0]):.1f} {_BOTTOM}Z",
        ),
        _stroke("curve", _path(frame, points)),
        _trend(frame, line) if line is not None else None,
        _level_line(frame, limit) if limit is not None else None,
    )
    label = None
    if limit is not None:
        label = _text(
            "100%",
            frame.y(limit) - 6,
            f"limit {level_label(limit)}",
            class_="limit-text",
            text_anchor="end",
        )
    described = (
        f"Memory of the process from {format_bytes(points[0].bytes)} to "
        f"{format_bytes(points[-1].bytes)} in {time_label(points[-1].seconds - points[0].seconds)}"
    )
    return Chart(_chart(described, frame, area, label, limit), line, limit)


def two_curves(old: TrendSummary, new: TrendSummary) -> Markup | None:
    """Return the curves of two reports over each other; None where one of them has no curve."""
    before, after = _drawable(old.curve), _drawable(new.curve)
    if len(before) < 2 or len(after) < 2:
        return None
    frame = _frame([before, after], None, None)
    lines = join(_stroke("curve old", _path(frame, before)), _stroke("curve", _path(frame, after)))
    return _chart("Memory of the process in the old report and in the new one", frame, lines)


def _drawable(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return the points that can be drawn, in order of time."""
    known = [
        point
        for point in curve
        if math.isfinite(point.seconds)
        and abs(point.seconds) < _LARGEST
        and abs(point.bytes) < _LARGEST
    ]
    known.sort(key=lambda point: point.seconds)
    if len(known) <= _MOST_POINTS:
        return known
    step = (len(known) - 1) / (_MOST_POINTS - 1)
    return [known[round(n * step)] for n in range(_MOST_POINTS)]


def _near_limit(trend: TrendSummary, points: Sequence[CurvePoint]) -> int | None:
    highest = max(point.bytes for point in points)
    limit = trend.limit_bytes
    if limit is None or highest <= 0 or not 0 < limit <= _NEAR * highest:
        return None
    return limit


def _frame(curves: Sequence[Sequence[CurvePoint]], line: Line | None, limit: int | None) -> _Frame:
    times = [point.seconds for curve in curves for point in curve]
    levels = [float(point.bytes) for curve in curves for point in curve]
    if line is not None:
        levels += [line.at(line.seconds), line.at(line.until)]
    if limit is not None:
        levels.append(float(limit))
    left, right = min(times), max(times)
    if right - left < 1e-9 * max(1.0, abs(right)):
        right = left + max(1.0, abs(left))
    low, high = min(levels), max(levels)
    # From zero where that does not flatten the curve; a cut axis shows its own lowest level.
    if 0 <= low <= 0.7 * high:
        low = 0.0
    if high - low < 1e-6 * max(1.0, abs(high)):
        low, high = low - max(1.0, abs(low) * 0.05), high + max(1.0, abs(high) * 0.05)
    elif low != 0:
        low -= (high - low) * 0.08
    return _Frame(left, right, low, high + (high - low) * 0.04)


def _chart(
    described: str,
    frame: _Frame,
    drawing: Markup,
    label: Markup | None = None,
    limit: int | None = None,
) -> Markup:
    return element(
        "svg",
        _grid(frame, limit),
        # The inner drawing is stretched; its lines keep their thickness.
        element(
            "svg",
            drawing,
            width="100%",
            height=HEIGHT,
            viewBox=f"0 0 {_WIDTH} {HEIGHT}",
            preserveAspectRatio="none",
        ),
        label,
        class_="chart",
        width="100%",
        height=HEIGHT,
        role="img",
        aria_label=described,
    )


def _grid(frame: _Frame, limit: int | None) -> Markup:
    taken = math.inf if limit is None else frame.y(limit)
    parts = [
        join(
            element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y),
            _text("0", y - 5, level_label(level)),
        )
        for level in byte_ticks(frame.low, frame.high)
        if abs((y := frame.y(level)) - taken) > 18  # no label across the line of the limit
    ]
    for seconds in time_ticks(frame.left, frame.right):
        share = frame.x(seconds)
        anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
        where = f"{share * 100:.2f}%"
        parts.append(_text(where, _BOTTOM + 20, time_label(seconds), text_anchor=anchor))
    return join(*parts)


def byte_ticks(low: float, high: float) -> list[float]:
    """Return up to five round levels: powers of two of a unit are round to a reader of memory."""
    step = 2.0 ** math.ceil(math.log2(max((high - low) / 5, 1.0)))
    first = math.ceil(low / step)
    return [n * step for n in range(first, first + 6) if n * step <= high - (high - low) * 0.03]


def time_ticks(left: float, right: float) -> list[float]:
    """Return up to seven round times, seconds; the two ends where nothing rounder fits."""
    step = next((step for step in _TIMES if (right - left) / step <= 5), None)
    if step is None:
        return [left, right]
    if right - left < 2:  # too short for whole seconds
        return [left, right]
    first = math.ceil(left / step)
    return [float(n * step) for n in range(first, first + 7) if n * step <= right]


def _path(frame: _Frame, points: Sequence[CurvePoint]) -> str:
    steps = (f"{_x(frame, point):.1f} {frame.y(point.bytes):.1f}" for point in points)
    return "M" + "L".join(steps)


def _x(frame: _Frame, point: CurvePoint) -> float:
    return frame.x(point.seconds) * _WIDTH


def _trend(frame: _Frame, line: Line) -> Markup:
    start, end = frame.x(line.seconds) * _WIDTH, frame.x(line.until) * _WIDTH
    from_y, to_y = frame.y(line.at(line.seconds)), frame.y(line.at(line.until))
    return _stroke("trend", f"M{start:.1f} {from_y:.1f}L{end:.1f} {to_y:.1f}")


def _level_line(frame: _Frame, level: float) -> Markup:
    return _stroke("limit", f"M0 {frame.y(level):.1f}L{_WIDTH} {frame.y(level):.1f}")


def _stroke(kind: str, path: str) -> Markup:
    return element("path", class_=kind, d=path, vector_effect="non-scaling-stroke")


def _text(x: str, y: float, text: str, **attributes: str) -> Markup:
    return element("text", text, x=x, y=round(y, 1), **attributes)


def level_label(level: float) -> str:
    """Return bytes as they stand at an axis: ``"64 MiB"``."""
    return format_bytes(level).replace(".0 ", " ")


def time_label(seconds: float) -> str:
    """Return seconds as they stand at an axis: ``"10 min"``."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
