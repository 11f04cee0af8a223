"""A leak report as text, HTML and JSON."""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.render.html.page import render_html, render_reports_html
    from memguard.report.render.json import parse_json, render_json
    from memguard.report.render.text import render_text

__all__ = [
    "parse_json",
    "render_html",
    "render_json",
    "render_reports_html",
    "render_text",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.render.html.page": "render_html render_reports_html",
            "memguard.report.render.json": "parse_json render_json",
            "memguard.report.render.text": "render_text",
        },
    )
