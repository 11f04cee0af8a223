"""
A report as one HTML file that needs nothing else: no script, no network, no font, no image.

Pure, but for asking the current directory, which file names are shortened against. The page follows
the reader's light or dark setting, fits a telephone and prints. Its Content Security Policy allows
its own style and nothing more, so that even markup that got in could not act.
"""

from __future__ import annotations

from collections.abc import Sequence

from memguard.leaks.report import Cost, LeakReport, TrendSummary, TypeGrowth
from memguard.report.render.advice import hints
from memguard.report.render.html.chart import memory_chart
from memguard.report.render.html.evidence import holder_tree, suspect_card
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.parts import (
    MOST_ENTRIES,
    bullets,
    chart_card,
    document,
    key,
    points,
    section,
    shown_of,
)
from memguard.report.render.words import Places, number, rate
from memguard.units import format_bytes, format_seconds

_KINDS = {
    "leak": "Leak",
    "growth": "Growth, not taken for a leak",
    "snapshot": "One look on demand",
}
_TITLES = {
    "live_objects": "Live Python objects",
    "cycles": "Reference cycles that the collector has not taken",
    "fragmentation": "Free memory that the allocator does not give back",
    "native": "Memory outside Python\u2019s allocators",
    "unknown": "Memory of a kind that the evidence does not tell",
    "none": "Nothing that lasts",
}


def render(report: LeakReport, *, directory: str | None = None) -> str:
    """
    Return *report* as a whole HTML document, UTF-8, ending in a newline.

    Args:
        report: What was found; its holders, suspects and types are shown in their order.
        directory: File names below it are shown relative to it; by default the current directory.
    """
    return render_all([report], directory=directory)


def render_all(reports: Sequence[LeakReport], *, directory: str | None = None) -> str:
    """Return *reports* one below the other in a document; see ``render``."""
    places = Places(directory)
    title = _TITLES[reports[0].verdict.kind] if len(reports) == 1 else f"{len(reports)} reports"
    return document(title, join(*(_article(report, places) for report in reports)))


def _article(report: LeakReport, places: Places) -> Markup:
    holders = report.holders[:MOST_ENTRIES]
    suspects = report.suspects[:MOST_ENTRIES]
    return element(
        "article",
        _header(report),
        _curve(report.trend),
        section("What to do", _advice(report)),
        section(
            "Held by",
            holder_tree(holders, report.suspects, places) if holders else None,
            note=shown_of(holders, report.holders, "sizes estimated from a sample of new entries"),
        ),
        section(
            "Allocated at",
            join(*(suspect_card(n, suspect, places) for n, suspect in enumerate(suspects))),
            note=shown_of(suspects, report.suspects, "lines whose memory stays"),
        ),
        section("Growing types", _types(report.types[:MOST_ENTRIES])),
        section("Not seen", points(report.limits) if report.limits else None),
        section("What this report cost the process", _cost(report.cost)),
        _footer(report),
    )


def _header(report: LeakReport) -> Markup:
    trend = report.trend
    return element(
        "header",
        element(
            "p",
            element("span", _KINDS[report.kind], class_=f"badge {report.kind}"),
            f"memguard report of process {report.pid}",
            class_="kicker",
        ),
        element("h1", _TITLES[report.verdict.kind]),
        element(
            "p",
            f"{format_bytes(trend.growth_bytes, signed=True)} over a baseline of "
            f"{format_bytes(trend.baseline_bytes)}, within {format_seconds(trend.span_seconds)}.",
            class_="lede",
        ),
        element("dl", *_facts(report), class_="facts card"),
    )


def _facts(report: LeakReport) -> list[Markup]:
    trend = report.trend
    facts = [
        _fact(
            "Pace",
            rate(trend.bytes_per_hour / 60),
            f"trend {trend.kind}, confidence {number(trend.confidence, '.2f')}",
        ),
        _fact(
            "Now",
            format_bytes(trend.current_bytes),
            f"{trend.samples:,} readings in {format_seconds(trend.span_seconds)}",
        ),
    ]
    if trend.limit_bytes is not None:
        source = f" ({trend.limit_source})" if trend.limit_source else ""
        limit = f"{format_bytes(trend.limit_bytes)}{source}"
        if trend.seconds_to_limit is None:
            facts.append(_fact("Limit", format_bytes(trend.limit_bytes), "not being approached"))
        else:
            facts.append(
                _fact("Limit reached in about", format_seconds(trend.seconds_to_limit), limit)
            )
    if report.explained_ratio is not None:
        share = number(report.explained_ratio * 100, ".0f")
        facts.append(_fact("Explained", f"{share} %", "of the pace, by the holders named"))
    return facts


def _fact(name: str, value: str, note: str) -> Markup:
    return element(
        "div", element("dt", name), element("dd", value, element("small", note), class_="number")
    )


def _curve(trend: TrendSummary) -> Markup | None:
    chart = memory_chart(trend)
    if chart is None:
        return None
    return chart_card(
        chart.drawing,
        key("curve", "private memory since the start of watching"),
        key("trend", f"fitted trend, {rate(trend.bytes_per_hour / 60)}") if chart.line else None,
        key("limit", "limit") if chart.limit is not None else None,
    )


def _advice(report: LeakReport) -> Markup | None:
    verdict = report.verdict
    points = (*hints(report, most=3), *verdict.reasons)
    if not verdict.advice and not points:
        return None
    return element(
        "div",
        element("p", verdict.advice) if verdict.advice else None,
        bullets(points) if points else None,
        class_="card advice",
    )


def _types(types: Sequence[TypeGrowth]) -> Markup | None:
    if not types:
        return None
    heads = [
        element("th", name, class_="number", scope="col") for name in ("Added", "Live", "A minute")
    ]
    rows = [
        element(
            "tr",
            element("td", element("code", growth.name)),
            element("td", f"{growth.added:+,}", class_="number"),
            element("td", f"{growth.count:,}", class_="number"),
            element("td", number(growth.per_minute, ",.0f"), class_="number"),
        )
        for growth in types
    ]
    head = element("thead", element("tr", element("th", "Type", scope="col"), *heads))
    return element("div", element("table", head, element("tbody", *rows)), class_="card wide")


def _cost(cost: Cost) -> Markup:
    costs = [
        ("Traced for", format_seconds(cost.traced_seconds)),
        ("Census", format_seconds(cost.census_seconds)),
        ("Holders", format_seconds(cost.retention_seconds)),
        ("Processor time", format_seconds(cost.cpu_seconds)),
        ("Tracer at most", format_bytes(cost.tracer_peak_bytes)),
    ]
    shown = [element("div", element("dt", name), element("dd", text)) for name, text in costs]
    return element("dl", *shown, class_="cost card")


def _footer(report: LeakReport) -> Markup:
    updated = f", updated {report.updated_at}" if report.revision > 1 else ""
    return element(
        "footer",
        f"Report {report.id}, revision {report.revision}. Found {report.started_at}{updated}, "
        f"{format_seconds(report.uptime_seconds)} after the start of watching, by detector "
        f"{report.detector}. {report.python or 'Python'}.",
    )
