"""
Memory up to now as inline SVG: the level, its range where readings were rolled up, the ceiling.

Pure, and safe on any numbers. However long the history is, a bounded number of points is drawn, and
the highest and lowest reading of each stretch stay visible. Where nothing was read, there is a gap.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memguard.report.render.html.chart import byte_ticks, level_label, time_label, time_ticks
from memguard.report.render.html.markup import Markup, element, join
from memguard.units import format_bytes, format_seconds

HEIGHT = 260
MOST_COLUMNS = 180
"""Points of a curve; a telephone has hardly more pixels."""
_TOP, _BOTTOM = 24, 232
_WIDTH = 1000
_LARGEST = 1e18
_NEAR = 2.5
"""A ceiling is drawn up to this multiple of the highest level; further up it flattens the curve."""
_GAP_STEPS = 6.0


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


@dataclass(frozen=True, slots=True)
class Curve:
    """A drawing and what it shows."""

    drawing: Markup
    has_range: bool
    """True where the lowest and highest of a stretch are told apart."""
    has_ceiling: bool


def memory_curve(points: Iterable[Point], ceiling: float | None) -> Curve | None:
    """
    Return the curve of *points*, in any order; None with fewer than two moments.

    Args:
        points: What was read.
        ceiling: What this process can reach before its limit, bytes; drawn where it is near.
    """
    known = _drawable(points)
    if len(known) < 2 or known[-1].seconds - known[0].seconds < 0.1:
        return None
    drawn = columns(known)
    stretches = _stretches(drawn, longest=_longest_step(known))
    highest = max(point.highest for point in drawn)
    if ceiling is not None and not 0 < ceiling <= max(_NEAR * highest, 1.0):
        ceiling = None
    frame = _Frame.around(drawn, ceiling)
    has_range = any(point.highest - point.lowest > 0 for point in drawn)
    drawing = join(
        *(_band(frame, stretch) for stretch in stretches if has_range and len(stretch) > 1),
        *(_area(frame, stretch) for stretch in stretches),
        *(_line(frame, stretch) for stretch in stretches),
        _ceiling(frame, ceiling),
    )
    return Curve(_drawn(frame, drawing, drawn, ceiling), has_range, ceiling is not None)


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
            math.isfinite(number) and abs(number) < _LARGEST
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


@dataclass(frozen=True, slots=True)
class _Frame:
    """The part of the plane that is shown."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, points: Sequence[Point], ceiling: float | None) -> _Frame:
        left, right = points[0].seconds, points[-1].seconds
        low = min(point.lowest for point in points)
        high = max(point.highest for point in points)
        if ceiling is not None:
            high = max(high, ceiling)
        # From zero where that does not flatten the curve; a cut axis shows its own lowest level.
        if 0 <= low <= 0.7 * high or ceiling is not None:
            low = min(low, 0.0)
        else:
            low -= (high - low) * 0.08
        # A quiet process is a flat line, not a mountain range of single pages.
        room = max(1.0, 0.02 * max(abs(low), abs(high))) - (high - low)
        if room > 0:
            low, high = low - room / 2, high + room / 2
        return cls(left, right, low, high + (high - low) * 0.04)

    def x(self, seconds: float) -> float:
        """Return units from the left."""
        return (seconds - self.left) / (self.right - self.left) * _WIDTH

    def y(self, level: float) -> float:
        """Return pixels from the top."""
        return _BOTTOM - (level - self.low) / (self.high - self.low) * (_BOTTOM - _TOP)


def _band(frame: _Frame, points: Sequence[Point]) -> Markup:
    above = "L".join(f"{frame.x(p.seconds):.1f} {frame.y(p.highest):.1f}" for p in points)
    below = "L".join(f"{frame.x(p.seconds):.1f} {frame.y(p.lowest):.1f}" for p in reversed(points))
    return element("path", class_="range", d=f"M{above}L{below}Z")


def _area(frame: _Frame, points: Sequence[Point]) -> Markup:
    start, end = frame.x(points[0].seconds), frame.x(points[-1].seconds)
    path = _path(frame, points)
    return element("path", class_="area", d=f"{path}L{end:.1f} {_BOTTOM}L{start:.1f} {_BOTTOM}Z")


def _line(frame: _Frame, points: Sequence[Point]) -> Markup:
    path = _path(frame, points)
    if len(points) == 1:  # a line of no length is drawn as a dot
        path += "h0"
    return element("path", class_="curve", d=path, vector_effect="non-scaling-stroke")


def _path(frame: _Frame, points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{frame.x(p.seconds):.1f} {frame.y(p.level):.1f}" for p in points)


def _ceiling(frame: _Frame, level: float | None) -> Markup | None:
    if level is None:
        return None
    path = f"M0 {frame.y(level):.1f}L{_WIDTH} {frame.y(level):.1f}"
    return element("path", class_="limit", d=path, vector_effect="non-scaling-stroke")


def _drawn(
    frame: _Frame, drawing: Markup, points: Sequence[Point], ceiling: float | None
) -> Markup:
    first, last = points[0], points[-1]
    described = (
        f"Private memory of the process in the last {format_seconds(-first.seconds)}: from "
        f"{format_bytes(first.level)} to {format_bytes(last.level)}, at most "
        f"{format_bytes(max(point.highest for point in points))}"
    )
    return element(
        "svg",
        _grid(frame),
        # The inner drawing is stretched; its lines keep their thickness.
        element(
            "svg",
            drawing,
            width="100%",
            height=HEIGHT,
            viewBox=f"0 0 {_WIDTH} {HEIGHT}",
            preserveAspectRatio="none",
        ),
        _labels(frame, ceiling),
        class_="chart",
        width="100%",
        height=HEIGHT,
        role="img",
        aria_label=described,
    )


def _grid(frame: _Frame) -> Markup:
    lines = (frame.y(level) for level in byte_ticks(frame.low, frame.high))
    return join(*(element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y) for y in lines))


def _labels(frame: _Frame, ceiling: float | None) -> Markup:
    """Return the texts; they stand above the curve, so that it crosses none of them."""
    taken = math.inf if ceiling is None else frame.y(ceiling)
    parts = [
        element("text", level_label(level), x="0", y=round(y - 5, 1))
        for level in byte_ticks(frame.low, frame.high)
        if abs((y := frame.y(level)) - taken) > 18  # no label across the line of the ceiling
    ]
    for seconds in time_ticks(frame.left, frame.right):
        share = frame.x(seconds) / _WIDTH
        anchor = "start" if share < 0.04 else "end" if share > 0.94 else "middle"
        text = "now" if seconds == 0 else time_label(seconds).replace("-", "\u2212")
        where = f"{share * 100:.2f}%"
        parts.append(element("text", text, x=where, y=_BOTTOM + 20, text_anchor=anchor))
    if ceiling is not None:
        text = f"limit at {level_label(ceiling)}"
        y = round(taken - 6, 1)
        parts.append(element("text", text, x="100%", y=y, class_="limit-text", text_anchor="end"))
    return join(*parts)
