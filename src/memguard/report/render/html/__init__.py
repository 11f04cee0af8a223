"""
A leak report as one page of HTML, and the parts that other pages are made of.

Everything is escaped; nothing is loaded from elsewhere.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.render.html import components, page
    from memguard.report.render.html.chart import two_curves
    from memguard.report.render.html.components import (
        MOST_ENTRIES,
        badge,
        bar,
        bullets,
        chart_card,
        document,
        fact,
        key,
        path,
        points,
        row,
        section,
        shown_of,
        table,
        wide_card,
    )
    from memguard.report.render.html.markup import Markup, element, join
    from memguard.report.render.html.page import render_html, render_reports_html
    from memguard.report.render.html.plot import (
        LARGEST,
        Frame,
        byte_ticks,
        draw,
        level_label,
        time_label,
        time_ticks,
    )
    from memguard.report.render.html.style import STYLE, digest, report_document

__all__ = [
    "LARGEST",
    "MOST_ENTRIES",
    "STYLE",
    "Frame",
    "Markup",
    "badge",
    "bar",
    "bullets",
    "byte_ticks",
    "chart_card",
    "components",
    "digest",
    "document",
    "draw",
    "element",
    "fact",
    "join",
    "key",
    "level_label",
    "page",
    "path",
    "points",
    "render_html",
    "render_reports_html",
    "report_document",
    "row",
    "section",
    "shown_of",
    "table",
    "time_label",
    "time_ticks",
    "two_curves",
    "wide_card",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.render.html": "components page",
            "memguard.report.render.html.chart": "two_curves",
            "memguard.report.render.html.components": (
                "MOST_ENTRIES badge bar bullets chart_card document fact key path points row "
                "section shown_of table wide_card"
            ),
            "memguard.report.render.html.markup": "Markup element join",
            "memguard.report.render.html.page": "render_html render_reports_html",
            "memguard.report.render.html.plot": (
                "Frame LARGEST byte_ticks draw level_label time_label time_ticks"
            ),
            "memguard.report.render.html.style": "STYLE digest report_document",
        },
    )
