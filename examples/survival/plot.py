"""Memory over time against the limit, as one SVG drawing. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from memguard.units import MiB

if TYPE_CHECKING:
    from examples.survival.contest import Outcome

WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 56, 90, 28, 40
COLORS = {"bare": "#c2410c", "tuned": "#6b7280", "guarded": "#0f766e"}


def svg(outcomes: Sequence[Outcome], *, limit: int) -> str:
    """Return the curves of *outcomes* with a line at *limit*, MiB over seconds."""
    last = max((at for outcome in outcomes for at, _ in outcome.curve), default=1.0) or 1.0
    top = 1.15 * max([limit, *(size for outcome in outcomes for _, size in outcome.curve)])

    def x(at: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * at / last:.1f}"

    def y(size: float) -> str:
        return f"{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / top:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<style>text { font: 13px system-ui, sans-serif; fill: #6b7280; }</style>",
        "<title>Resident memory over time against the limit</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">resident memory, MiB, over seconds</text>',
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0)}" y2="{y(0)}" stroke="#9ca3af"/>',
        f'<path d="M{LEFT} {y(limit)}H{WIDTH - RIGHT}" stroke="#b91c1c" stroke-dasharray="6 4"/>',
        f'<text x="{WIDTH - RIGHT + 6}" y="{y(limit)}" dy="4" style="fill:#b91c1c">limit</text>',
    ]
    parts += [
        f'<text x="{LEFT - 8}" y="{y(size)}" dy="4" text-anchor="end">{size // MiB}</text>'
        for size in range(0, int(top), 100 * MiB)
    ]
    below = HEIGHT - BOTTOM + 20
    parts += [
        f'<text x="{x(second)}" y="{below}" text-anchor="middle">{second} s</text>'
        for second in range(0, int(last) + 1, max(1, round(last / 8)))
    ]
    for outcome in outcomes:
        if not outcome.curve:
            continue
        color = COLORS.get(outcome.mode, "#111827")
        line = " ".join(f"{x(at)},{y(size)}" for at, size in outcome.curve)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{line}"/>')
        at, size = outcome.curve[-1]
        word = outcome.mode if outcome.result is not None else f"{outcome.mode}: {outcome.ending}"
        place = f'x="{x(at)}" y="{y(size)}" dx="6" dy="-4" style="fill:{color}"'
        parts.append(f"<text {place}>{escape(word)}</text>")
    return "\n".join([*parts, "</svg>"])
