"""
A report as one self-contained HTML file: no script, no network, no font, no image.

Pure, but for asking the current directory, which file names are shortened against. The page follows
the reader's light or dark setting, fits a telephone and prints. Its Content Security Policy allows
its own style and nothing more, so that even markup that got in could not act.
"""

from __future__ import annotations

from collections.abc import Sequence

from memguard.leaks.report import Cost, LeakReport, TrendSummary, TypeGrowth
from memguard.report.render.content import (
    callers,
    callers_note,
    callers_title,
    costs,
    explained,
    garbage,
    hints,
    holders_note,
    holders_title,
    label,
    last_window,
    readings,
    suspects_note,
    suspects_title,
    trend_of,
    trend_words,
    watched_until,
    window,
)
from memguard.report.render.html.chart import memory_chart
from memguard.report.render.html.components import (
    MOST_ENTRIES,
    badge,
    bullets,
    chart_card,
    fact,
    key,
    points,
    row,
    section,
    shown_of,
    table,
    wide_card,
)
from memguard.report.render.html.evidence import holder_tree, resource_card, suspect_card
from memguard.report.render.html.markup import Markup, element, join
from memguard.report.render.html.style import report_document
from memguard.report.render.resources import resources_title
from memguard.report.render.words import VERDICTS, Locations, capital, number, rate
from memguard.units import format_bytes, format_seconds


def render_html(report: LeakReport, *, directory: str | None = None) -> str:
    """
    Return *report* as a whole HTML document, UTF-8, ending in a newline.

    Args:
        report: What was found; its holders, suspects and types are shown in their order.
        directory: File names below it are shown relative to it; by default the current directory.
    """
    return render_reports_html([report], directory=directory)


def render_reports_html(reports: Sequence[LeakReport], *, directory: str | None = None) -> str:
    """Return *reports* one below the other in a document; see ``render_html``."""
    locations = Locations(directory)
    title = _title(reports[0]) if len(reports) == 1 else f"{len(reports)} reports"
    return report_document(title, join(*(_article(report, locations) for report in reports)))


def _title(report: LeakReport) -> str:
    return report.headline  # it may begin with a name


def _article(report: LeakReport, locations: Locations) -> Markup:
    holders = report.holders[:MOST_ENTRIES]
    calling = callers(report)
    allocating = [suspect for suspect in report.suspects if suspect.callee is None]
    suspects = allocating[:MOST_ENTRIES]
    return element(
        "article",
        _header(report),
        _curve(report.trend),
        section("What to do", _advice(report)),
        section(resources_title(report), _resources(report, locations), note=window(report)),
        section(
            holders_title(report),
            holder_tree(holders, report, locations) if holders else None,
            note=shown_of(holders, report.holders, holders_note(report)),
        ),
        section(
            callers_title(),
            join(
                *(
                    suspect_card(n, suspect, locations)
                    for n, suspect in enumerate(calling[:MOST_ENTRIES])
                )
            ),
            note=shown_of(calling[:MOST_ENTRIES], calling, callers_note()),
        ),
        section(
            suspects_title(report, some_claimed=False),
            join(*(suspect_card(n, suspect, locations) for n, suspect in enumerate(suspects))),
            note=shown_of(suspects, allocating, suspects_note(report)),
        ),
        section("Growing types", _types(report.types[:MOST_ENTRIES]), note=last_window(report)),
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
            badge(report.kind, label(report)),
            f"memguard report of process {report.pid}",
            class_="kicker",
        ),
        element("h1", _title(report)),
        element(
            "p",
            f"{capital(VERDICTS[report.verdict.kind])}: "
            f"{format_bytes(trend.growth_bytes, signed=True)} over a baseline of "
            f"{format_bytes(trend.baseline_bytes)}, within {format_seconds(trend.span_seconds)}.",
            class_="lede",
        ),
        element("dl", *_facts(report), class_="facts card"),
    )


def _facts(report: LeakReport) -> list[Markup]:
    trend = trend_of(report)
    facts = [
        fact(
            "Growth rate",
            rate(trend.bytes_per_hour / 60),
            trend_words(report) or "",
        ),
        fact(
            "Now",
            format_bytes(trend.current_bytes),
            f"in {readings(report)}",
        ),
    ]
    if trend.limit_bytes is not None:
        source = f" ({trend.limit_source})" if trend.limit_source else ""
        limit = f"{format_bytes(trend.limit_bytes)}{source}"
        if trend.seconds_to_limit is None:
            facts.append(fact("Limit", format_bytes(trend.limit_bytes), "not being approached"))
        else:
            facts.append(
                fact("Limit reached in about", format_seconds(trend.seconds_to_limit), limit)
            )
    parts = explained(report)
    if parts is not None:
        facts.append(fact("Explained", parts[0], f"by what is named; not explained: {parts[1]}"))
        waits = garbage(report)
        if waits is not None:
            facts.append(fact("Garbage", waits, "in reference cycles"))
    return facts


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


def _resources(report: LeakReport, locations: Locations) -> Markup | None:
    if not report.resources:
        return None
    return join(*(resource_card(growth, locations) for growth in report.resources[:MOST_ENTRIES]))


def _types(types: Sequence[TypeGrowth]) -> Markup | None:
    if not types:
        return None
    rows = [
        row(
            element("code", growth.name),
            f"{growth.added:+,}",
            f"{growth.count:,}",
            number(growth.per_minute, ",.0f"),
        )
        for growth in types
    ]
    return wide_card(table(("Type", "Added", "Live", "A minute"), rows))


def _cost(cost: Cost) -> Markup:
    shown = [element("div", element("dt", name), element("dd", text)) for name, text in costs(cost)]
    return element("dl", *shown, class_="cost card")


def _footer(report: LeakReport) -> Markup:
    updated = f", updated {report.updated_at}" if report.revision > 1 else ""
    return element(
        "footer",
        f"Report {report.id}, revision {report.revision}. Found {report.started_at}{updated}, "
        f"{format_seconds(report.uptime_seconds)} after the start of watching, by detector "
        f"{report.detector}. {report.python or 'Python'}.",
        f" {capital(until)}." if (until := watched_until(report)) is not None else None,
    )
