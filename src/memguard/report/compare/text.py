"""A comparison for a terminal. Pure; names are made harmless as in ``report.text``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from memguard.leaks.report import LeakReport
from memguard.report.compare.comparison import Change, Comparison
from memguard.report.render.words import VERDICTS, number, printable, rate
from memguard.units import format_bytes

WIDTH = 100
MOST_CHANGES = 15

HEADLINES = {
    "better": "BETTER: it grows more slowly",
    "worse": "WORSE: it grows faster",
    "same": "The same, within a fifth",
    "unknown": "Not comparable: a rate is not known",
}


def render(comparison: Comparison) -> str:
    """Return *comparison* as text, ending in a newline."""
    old, new = comparison.old, comparison.new
    head = [headline(comparison), "  old  " + side(old), "  new  " + side(new)]
    sections = [
        head,
        _section("Held by", comparison.holders),
        _section("Allocated at", comparison.suspects),
        _section("Growing types", comparison.types),
        [line for note in comparison.notes for line in _note(note)],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def headline(comparison: Comparison) -> str:
    """Return what became of the whole process, in words."""
    old, new = comparison.old, comparison.new
    if comparison.outcome == "better" and old.kind == "leak" and new.kind == "growth":
        return "BETTER: a leak before, growth that is not taken for one now"
    if comparison.outcome == "worse" and old.kind == "growth" and new.kind == "leak":
        return "WORSE: a leak now, growth that was not taken for one before"
    return HEADLINES[comparison.outcome]


def side(report: LeakReport) -> str:
    """Return one of the two reports in a line."""
    trend = report.trend
    growth = format_bytes(trend.growth_bytes, signed=True)
    return (
        f"{rate(trend.bytes_per_hour / 60)}, {growth} over {format_bytes(trend.baseline_bytes)}; "
        f"{report.kind}: {VERDICTS[report.verdict.kind]}; "
        f"{printable(report.id, longest=40)}, {printable(report.updated_at, longest=40)}"
    )


def rates(change: Change) -> str:
    """Return the old rate and the new one: ``"1.9 MiB/min -> 12.0 KiB/h"``."""
    if change.kind == "new":
        return _pace(change, change.after_per_minute)
    if change.kind == "gone":
        return f"{_pace(change, change.before_per_minute)} before"
    before, after = change.before_per_minute, change.after_per_minute
    return f"{_pace(change, before)} -> {_pace(change, after)}"


def _pace(change: Change, per_minute: float | None) -> str:
    if per_minute is None:
        return "unknown"
    if change.unit == "bytes":
        return rate(per_minute)
    counted = "" if change.unit == "instances" else f" {change.unit}"
    return f"{number(per_minute, ',.0f')}{counted}/min"


def _section(title: str, changes: Sequence[Change]) -> list[str]:
    if not changes:
        return []
    lines = [title]
    for change in changes[:MOST_CHANGES]:
        detail = f"  {printable(change.detail, longest=80)}" if change.detail else ""
        lines.append(f"  {change.kind:<8} {rates(change):<32} {printable(change.name)}{detail}")
    left = len(changes) - MOST_CHANGES
    return [*lines, f"  and {left:,} more"] if left > 0 else lines


def _note(note: str) -> list[str]:
    return textwrap.wrap(
        printable(note, longest=2 * WIDTH), WIDTH, initial_indent="- ", subsequent_indent="  "
    )
