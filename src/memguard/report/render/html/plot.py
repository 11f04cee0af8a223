"""
Levels of memory over time as inline SVG: axes, grid, lines. Pure, and safe on any numbers.

The drawing is stretched to the width of the page; its text is placed in percent and therefore keeps
its size on a telephone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from memguard.report.render.html.markup import Markup, element, join
from memguard.units import format_bytes

HEIGHT = 240
WIDTH = 1000
"""Of the stretched drawing, in units of its own."""
LARGEST = 1e18
"""Beyond an exbibyte or 30 billion years nothing is drawn."""
_TOP, _BOTTOM = 22, 212  # of the plot; the times stand below it

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TIMES = (
    *(1, 2, 5, 10, 15, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 4, 6, 12)),
    *(n * _DAY for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)

Step = tuple[float, float]
"""(seconds, bytes)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of the plane that is shown."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(
        cls, times: Sequence[float], levels: Sequence[float], *, flat: float, from_zero: bool
    ) -> Frame:
        """
        Return the part in which all *times* and *levels* are.

        Args:
            times: Seconds.
            levels: Bytes.
            flat: Levels that differ by less than this share are a flat line, not mountains.
            from_zero: Begin at zero, also where that flattens the curve.
        """
        left, right = min(times), max(times)
        if right - left < 1e-9 * max(1.0, abs(right)):
            right = left + max(1.0, abs(left))
        low, high = min(levels), max(levels)
        # From zero where that does not flatten the curve; a cut axis shows its own lowest level.
        if 0 <= low <= 0.7 * high or from_zero:
            low = min(low, 0.0)
        if high - low < flat * max(1.0, abs(high)):
            room = max(1.0, abs(high) * 0.05)
            low, high = low - room, high + room
        elif low != 0:
            low -= (high - low) * 0.08
        return cls(left, right, low, high + (high - low) * 0.04)

    def share(self, seconds: float) -> float:
        """Return how far to the right a moment is, 0 to 1."""
        return (seconds - self.left) / (self.right - self.left)

    def x(self, seconds: float) -> float:
        """Return units from the left."""
        return self.share(seconds) * WIDTH

    def y(self, level: float) -> float:
        """Return pixels from the top."""
        return _BOTTOM - (level - self.low) / (self.high - self.low) * (_BOTTOM - _TOP)

    # -- what is drawn in it ----------------------------------------------------------------------

    def path(self, steps: Iterable[Step]) -> str:
        """Return a line from one of *steps* to the next."""
        return "M" + "L".join(f"{self.x(at):.1f} {self.y(level):.1f}" for at, level in steps)

    def line(self, kind: str, steps: Sequence[Step]) -> Markup:
        """Return a line of one thickness, however the drawing is stretched; one step is a dot."""
        path = self.path(steps) + ("h0" if len(steps) == 1 else "")
        return element("path", class_=kind, d=path, vector_effect="non-scaling-stroke")

    def area(self, steps: Sequence[Step]) -> Markup:
        """Return what is between a line and the bottom."""
        start, end = self.x(steps[0][0]), self.x(steps[-1][0])
        path = f"{self.path(steps)}L{end:.1f} {_BOTTOM}L{start:.1f} {_BOTTOM}Z"
        return element("path", class_="area", d=path)

    def limit_line(self, limit: float | None) -> Markup | None:
        """Return a level line through the whole drawing."""
        if limit is None:
            return None
        path = f"M0 {self.y(limit):.1f}L{WIDTH} {self.y(limit):.1f}"
        return element("path", class_="limit", d=path, vector_effect="non-scaling-stroke")


def draw(
    frame: Frame,
    drawing: Markup,
    described: str,
    *,
    limit: float | None = None,
    time_text: Callable[[float], str] | None = None,
) -> Markup:
    """
    Return *drawing* between its axes.

    Args:
        frame: What is shown.
        drawing: The lines in it.
        described: The same in words, for screen readers.
        limit: The level of the limit line, which gets a label.
        time_text: What stands at the axis of time; by default `time_label`.
    """
    lines = (frame.y(level) for level in byte_ticks(frame.low, frame.high))
    return element(
        "svg",
        *(element("line", class_="grid", x1="0", x2="100%", y1=y, y2=y) for y in lines),
        # The inner drawing is stretched; its lines keep their thickness.
        element(
            "svg",
            drawing,
            width="100%",
            height=HEIGHT,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            preserveAspectRatio="none",
        ),
        _labels(frame, limit, time_text or time_label),
        class_="chart",
        width="100%",
        height=HEIGHT,
        role="img",
        aria_label=described,
    )


def _labels(frame: Frame, limit: float | None, time_text: Callable[[float], str]) -> Markup:
    """Return the texts; they stand above the lines, so that none crosses them."""
    taken = math.inf if limit is None else frame.y(limit)
    parts = [
        element("text", level_label(level), x="0", y=round(y - 5, 1))
        for level in byte_ticks(frame.low, frame.high)
        if abs((y := frame.y(level)) - taken) > 18  # no label across the limit line
    ]
    for seconds in time_ticks(frame.left, frame.right):
        share = frame.share(seconds)
        anchor = "start" if share < 0.04 else "end" if share > 0.94 else "middle"
        where = f"{share * 100:.2f}%"
        parts.append(
            element("text", time_text(seconds), x=where, y=_BOTTOM + 20, text_anchor=anchor)
        )
    if limit is not None:
        text, y = f"limit {level_label(limit)}", round(taken - 6, 1)
        parts.append(element("text", text, x="100%", y=y, class_="limit-text", text_anchor="end"))
    return join(*parts)


def byte_ticks(low: float, high: float) -> list[float]:
    """Return up to five round levels: powers of two of a unit are round to a reader of memory."""
    step = 2.0 ** math.ceil(math.log2(max((high - low) / 5, 1.0)))
    first = math.ceil(low / step)
    return [n * step for n in range(first, first + 6) if n * step <= high - (high - low) * 0.03]


def time_ticks(left: float, right: float) -> list[float]:
    """Return up to seven round times, seconds; the two ends where nothing rounder fits."""
    step = next((step for step in _TIMES if (right - left) / step <= 5), None)
    if step is None or right - left < 2:  # too short for whole seconds
        return [left, right]
    first = math.ceil(left / step)
    return [float(n * step) for n in range(first, first + 7) if n * step <= right]


def level_label(level: float) -> str:
    """Return bytes as they stand at an axis: ``"64 MiB"``."""
    return format_bytes(level).replace(".0 ", " ")


def time_label(seconds: float) -> str:
    """Return seconds as they stand at an axis: ``"10 min"``."""
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
