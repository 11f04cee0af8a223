"""A comparison for a terminal and as one HTML file. Pure; names are escaped as in reports."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from memguard.leaks.report import LeakReport
from memguard.report.compare.comparison import Change, Comparison
from memguard.report.render.html.chart import two_curves
from memguard.report.render.html.components import (
    MOST_ENTRIES,
    badge,
    bar,
    chart_card,
    key,
    path,
    points,
    section,
    shown_of,
)
from memguard.report.render.html.markup import Markup, element
from memguard.report.render.html.style import report_document
from memguard.report.render.words import capital, number, printable, rate
from memguard.units import format_bytes

WIDTH = 100
MOST_CHANGES = 15
_OUTCOMES = {
    "better": ("Better", "it grows more slowly"),
    "worse": ("Worse", "it grows faster"),
    "same": ("The same", "within a fifth"),
    "unknown": ("Not comparable", "a rate is not known"),
}


def render_text(comparison: Comparison) -> str:
    """Return *comparison* as text for a terminal, ending in a newline."""
    title, what = _headline(comparison)
    parts = [
        [f"{title.upper()}: {what}", *map(_side_line, _sides(comparison))],
        *(_changes_text(name, changes) for name, changes in _sections(comparison)),
        [line for note in comparison.notes for line in _note(note)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def render_html(comparison: Comparison) -> str:
    """Return *comparison* as a whole HTML document, UTF-8, ending in a newline."""
    title, what = _headline(comparison)
    curves = two_curves(comparison.old.trend, comparison.new.trend)
    chart = None
    if curves is not None:
        chart = chart_card(curves, key("old", "old report"), key("curve", "new report"))
    body = element(
        "article",
        element(
            "header",
            element(
                "p",
                badge(comparison.outcome, title),
                "memguard, two reports compared",
                class_="kicker",
            ),
            element("h1", capital(what)),
            element("div", *map(_side_card, _sides(comparison)), class_="sides"),
        ),
        chart,
        *(_changes_html(name, changes) for name, changes in _sections(comparison)),
        section("Notes", points(comparison.notes) if comparison.notes else None),
    )
    return report_document(f"{title}: two reports", body)


# -- what both show -------------------------------------------------------------------------------


def _headline(comparison: Comparison) -> tuple[str, str]:
    """Return what became of the whole process: in a word, and in a sentence."""
    title, what = _OUTCOMES[comparison.outcome]
    intruder = comparison.intruder
    if intruder is not None:
        return title, f"another holder than before: {printable(intruder.name)}"
    kinds = (comparison.old.kind, comparison.new.kind)
    if comparison.outcome == "better" and kinds == ("leak", "growth"):
        what = "a leak before, growth that is not classified as one now"
    if comparison.outcome == "worse" and kinds == ("growth", "leak"):
        what = "a leak now, growth that was not classified as one before"
    return title, what


def _sides(comparison: Comparison) -> tuple[tuple[str, LeakReport], tuple[str, LeakReport]]:
    return ("old", comparison.old), ("new", comparison.new)


def _sections(comparison: Comparison) -> tuple[tuple[str, Sequence[Change]], ...]:
    return (
        ("Held by", comparison.holders),
        ("Allocated at", comparison.suspects),
        ("Growing types", comparison.types),
    )


def _grown(report: LeakReport) -> str:
    trend = report.trend
    growth = format_bytes(trend.growth_bytes, signed=True)
    return f"{growth} over {format_bytes(trend.baseline_bytes)}"


def rates(change: Change) -> str:
    """Return the old rate and the new one: ``"1.9 MiB/min -> 12.0 KiB/h"``."""
    if change.kind == "new":
        return _rate(change, change.after_per_minute)
    if change.kind == "gone":
        return f"{_rate(change, change.before_per_minute)} before"
    before, after = change.before_per_minute, change.after_per_minute
    return f"{_rate(change, before)} -> {_rate(change, after)}"


def _rate(change: Change, per_minute: float | None) -> str:
    if per_minute is None:
        return "unknown"
    if change.unit == "bytes":
        return rate(per_minute)
    counted = "" if change.unit == "instances" else f" {change.unit}"
    return f"{number(per_minute, ',.0f')}{counted}/min"


# -- text -----------------------------------------------------------------------------------------


def _side_line(side: tuple[str, LeakReport]) -> str:
    title, report = side
    return (
        f"  {title}  {rate(report.trend.bytes_per_hour / 60)}, {_grown(report)}; "
        f"{report.kind}: {report.headline}; "
        f"{printable(report.id, longest=40)}, {printable(report.updated_at, longest=40)}"
    )


def _changes_text(title: str, changes: Sequence[Change]) -> list[str]:
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


# -- HTML -----------------------------------------------------------------------------------------


def _side_card(side: tuple[str, LeakReport]) -> Markup:
    title, report = side
    return element(
        "div",
        element("p", capital(title), class_="small soft"),
        element("h3", rate(report.trend.bytes_per_hour / 60), class_="number"),
        element("p", f"{_grown(report)}; {report.headline}", class_="small"),
        element("p", f"{report.id}, {report.updated_at}", class_="small soft place"),
        class_="card",
    )


def _changes_html(title: str, changes: Sequence[Change]) -> Markup | None:
    shown = changes[:MOST_ENTRIES]
    largest: dict[str, float] = {}
    for change in shown:
        for pace in (change.before_per_minute, change.after_per_minute):
            largest[change.unit] = max(largest.get(change.unit, 0.0), pace or 0.0)
    if not shown:
        return None
    items = [_change(change, largest[change.unit] or 1.0) for change in shown]
    note = shown_of(shown, changes, "rates, old and new")
    return section(title, element("ul", *items, class_="plain card changes"), note=note)


def _change(change: Change, largest: float) -> Markup:
    detail = element("span", change.detail, class_="type") if change.detail else None
    before, after = change.before_per_minute or 0.0, change.after_per_minute or 0.0
    return element(
        "li",
        element(
            "div",
            element("p", path(change.name), detail),
            badge(change.kind, change.kind),
            class_="head",
        ),
        bar(before / largest, class_="bar pair", fill="fill old"),
        bar(after / largest, class_="bar pair"),
        element("p", rates(change).replace("->", "\u2192"), class_="number small numbers"),
    )
