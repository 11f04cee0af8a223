"""Both memory curves: an SVG, a page around it, and a line of blocks for the terminal. Pure."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from memguard.units import MiB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 90, 28, 40
BLOCKS = "▁▂▃▄▅▆▇█"

_STYLE = """
.curves { font: 13px system-ui, sans-serif; --ink: #1b1f24; --faint: #8a919b; --rule: #e3e6ea;
  --leaky: #c2410c; --repaired: #0f766e; }
@media (prefers-color-scheme: dark) {
  .curves { --ink: #e6e8eb; --rule: #30363d; --leaky: #fb923c; --repaired: #2dd4bf; }
}
.curves text { fill: var(--ink); } .curves .faint { fill: var(--faint); }
.curves line { stroke: var(--rule); } .curves .mark { stroke: var(--faint); stroke-dasharray: 3 3; }
.curves polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.curves .leaky { stroke: var(--leaky); } .curves text.leaky { fill: var(--leaky); stroke: none; }
.curves .repaired { stroke: var(--repaired); }
.curves text.repaired { fill: var(--repaired); stroke: none; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
body {{ padding: 0 1rem; }}
svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }}
pre {{ overflow-x: auto; padding: 1rem; border: 1px solid #8884; }}
</style>
<h1>{title}</h1>
{svg}
<h2>Planted, found, where</h2>
{table}
{reports}
</html>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One run's memory over time."""

    name: str
    """``leaky`` or ``repaired``: the words the style knows."""
    points: tuple[tuple[float, int], ...]
    """(seconds, bytes), oldest first."""
    marks: tuple[tuple[float, str], ...] = ()
    """(seconds, words): moments to point out."""


def nice_step(span: float, steps: int = 5) -> float:
    """Return a round step (1, 2 or 5 times a power of ten) that divides *span* in about *steps*."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / steps))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= span / steps)


def svg(curves: Sequence[Curve]) -> str:
    """
    Return *curves* as one SVG drawing, MiB over seconds, both from zero.

    Raises:
        ValueError: No curve has a point.
    """
    points = [point for curve in curves for point in curve.points]
    if not points:
        raise ValueError("no curve has a point: there is nothing to draw")
    last = max(1.0, *(seconds for seconds, _ in points))
    step = nice_step(max(size for _, size in points) / MiB)
    top = step * math.ceil(max(size for _, size in points) / MiB / step)

    def x(seconds: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * max(0.0, seconds) / last:.1f}"

    def y(mebibytes: float) -> str:
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * mebibytes / top:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="curves" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<title>Resident memory over time</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="{LEFT}" y="16">resident memory, MiB</text>',
    ]
    for number in range(round(top / step) + 1):
        at = number * step
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(at)}" y2="{y(at)}"/>')
        parts.append(
            f'<text class="faint" x="{LEFT - 8}" y="{y(at)}" dy="4" text-anchor="end">{at:g}</text>'
        )
    every = nice_step(last)
    for number in range(int(last / every) + 1):
        at = number * every
        parts.append(
            f'<text class="faint" x="{x(at)}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">'
            f"{at:g} s</text>"
        )
    for curve in curves:
        parts += _drawn(curve, x, y)
    return "\n".join([*parts, "</svg>"])


def _drawn(curve: Curve, x: Callable[[float], str], y: Callable[[float], str]) -> Iterable[str]:
    name = escape(curve.name, quote=True)
    for seconds, words in curve.marks:
        at = x(seconds)
        yield f'<line class="mark" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        side = 'dx="5"' if float(at) < WIDTH / 2 else 'dx="-5" text-anchor="end"'
        yield f'<text class="faint" x="{at}" y="{TOP}" {side} dy="10">{escape(words)}</text>'
    if curve.points:
        line = " ".join(f"{x(seconds)},{y(size / MiB)}" for seconds, size in curve.points)
        yield f'<polyline class="{name}" points="{line}"/>'
        seconds, size = curve.points[-1]
        yield (
            f'<text class="{name}" x="{x(seconds)}" y="{y(size / MiB)}" dx="6" dy="4">{name}</text>'
        )


def html(
    title: str,
    drawing: str,
    rows: Sequence[tuple[str, str, str]],
    reports: Iterable[str],
) -> str:
    """Return one self-contained page: the *drawing*, the table and the text of each report."""
    table = "\n".join(
        "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in zip(["th"] + ["td"] * len(rows), rows, strict=False)
    )
    sections = "\n".join(f"<pre>{escape(text)}</pre>" for text in reports)
    return _PAGE.format(
        title=escape(title),
        svg=drawing,
        table=f"<table>\n{table}\n</table>",
        reports=f"<h2>What memguard wrote</h2>\n{sections}" if sections else "",
    )


def sparkline(sizes: Sequence[float], *, width: int, low: float, high: float) -> str:
    """Return *sizes* as at most *width* blocks, the lowest for *low* and the highest for *high*."""
    if not sizes or width < 1:
        return ""
    width = min(width, len(sizes))
    bounds = [len(sizes) * column // width for column in range(width + 1)]
    levels = [max(sizes[a:b]) for a, b in itertools.pairwise(bounds)]
    span = high - low
    return "".join(
        BLOCKS[min(len(BLOCKS) - 1, max(0, int((level - low) / span * len(BLOCKS))))]
        if span > 0
        else BLOCKS[0]
        for level in levels
    )
