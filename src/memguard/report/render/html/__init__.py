"""
A leak report as one page of HTML, and the parts that other pages are made of.

Everything is escaped; nothing is loaded from elsewhere.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.render.html import components as components
    from memguard.report.render.html import page as page
    from memguard.report.render.html.chart import two_curves as two_curves
    from memguard.report.render.html.components import MOST_ENTRIES as MOST_ENTRIES
    from memguard.report.render.html.components import badge as badge
    from memguard.report.render.html.components import bar as bar
    from memguard.report.render.html.components import bullets as bullets
    from memguard.report.render.html.components import chart_card as chart_card
    from memguard.report.render.html.components import document as document
    from memguard.report.render.html.components import fact as fact
    from memguard.report.render.html.components import key as key
    from memguard.report.render.html.components import path as path
    from memguard.report.render.html.components import points as points
    from memguard.report.render.html.components import row as row
    from memguard.report.render.html.components import section as section
    from memguard.report.render.html.components import shown_of as shown_of
    from memguard.report.render.html.components import table as table
    from memguard.report.render.html.components import wide_card as wide_card
    from memguard.report.render.html.markup import Markup as Markup
    from memguard.report.render.html.markup import element as element
    from memguard.report.render.html.markup import join as join
    from memguard.report.render.html.page import render_html as render_html
    from memguard.report.render.html.page import render_reports_html as render_reports_html
    from memguard.report.render.html.plot import LARGEST as LARGEST
    from memguard.report.render.html.plot import Frame as Frame
    from memguard.report.render.html.plot import byte_ticks as byte_ticks
    from memguard.report.render.html.plot import draw as draw
    from memguard.report.render.html.plot import level_label as level_label
    from memguard.report.render.html.plot import time_label as time_label
    from memguard.report.render.html.plot import time_ticks as time_ticks
    from memguard.report.render.html.style import STYLE as STYLE
    from memguard.report.render.html.style import digest as digest
    from memguard.report.render.html.style import report_document as report_document
else:
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
