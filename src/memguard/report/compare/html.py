"""A comparison of two reports as one HTML file, with the look and the policy of a report. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from memguard.leaks.report import LeakReport
from memguard.report.compare.comparison import Change, Comparison
from memguard.report.compare.text import headline, rates
from memguard.report.render.html.chart import two_curves
from memguard.report.render.html.markup import Markup, element
from memguard.report.render.html.parts import (
    MOST_ENTRIES,
    bar,
    chart_card,
    document,
    key,
    path,
    points,
    section,
    shown_of,
)
from memguard.report.render.words import VERDICTS, rate
from memguard.units import format_bytes

_BADGES = {"better": "Better", "worse": "Worse", "same": "The same", "unknown": "Not comparable"}


def render(comparison: Comparison) -> str:
    """Return *comparison* as a whole HTML document, UTF-8, ending in a newline."""
    curves = two_curves(comparison.old.trend, comparison.new.trend)
    chart = None
    if curves is not None:
        chart = chart_card(curves, key("old", "old report"), key("curve", "new report"))
    said = headline(comparison).partition(": ")
    body = element(
        "article",
        element(
            "header",
            element(
                "p",
                element("span", _BADGES[comparison.outcome], class_=f"badge {comparison.outcome}"),
                "memguard, two reports compared",
                class_="kicker",
            ),
            element("h1", _capital(said[2] or said[0])),
            element(
                "div", _side("Old", comparison.old), _side("New", comparison.new), class_="sides"
            ),
        ),
        chart,
        _changes("Held by", comparison.holders),
        _changes("Allocated at", comparison.suspects),
        _changes("Growing types", comparison.types),
        section("To be kept in mind", points(comparison.notes) if comparison.notes else None),
    )
    return document(f"{_BADGES[comparison.outcome]}: two reports", body)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _side(title: str, report: LeakReport) -> Markup:
    trend = report.trend
    growth = (
        f"{format_bytes(trend.growth_bytes, signed=True)} over {format_bytes(trend.baseline_bytes)}"
    )
    return element(
        "div",
        element("p", title, class_="small soft"),
        element("h3", rate(trend.bytes_per_hour / 60), class_="number"),
        element("p", f"{growth}; {VERDICTS[report.verdict.kind]}", class_="small"),
        element("p", f"{report.id}, {report.updated_at}", class_="small soft place"),
        class_="card",
    )


def _changes(title: str, changes: Sequence[Change]) -> Markup | None:
    shown = changes[:MOST_ENTRIES]
    largest: dict[str, float] = {}
    for change in shown:
        for pace in (change.before_per_minute, change.after_per_minute):
            largest[change.unit] = max(largest.get(change.unit, 0.0), pace or 0.0)
    if not shown:
        return None
    rows = [_change(change, largest[change.unit]) for change in shown]
    note = shown_of(shown, changes, "rates, old and new")
    return section(title, element("ul", *rows, class_="plain card changes"), note=note)


def _change(change: Change, largest: float) -> Markup:
    detail = element("span", change.detail, class_="type") if change.detail else None
    scale = largest if largest > 0 else 1.0
    return element(
        "li",
        element(
            "div",
            element("p", path(change.name), detail),
            element("span", change.kind, class_=f"badge {change.kind}"),
            class_="head",
        ),
        bar((change.before_per_minute or 0.0) / scale, kind="fill old", pair=True),
        bar((change.after_per_minute or 0.0) / scale, pair=True),
        element("p", rates(change).replace("->", "\u2192"), class_="number small numbers"),
    )
