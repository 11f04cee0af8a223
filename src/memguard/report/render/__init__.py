"""
A leak report as text, HTML and JSON.

Each form has a function of its own; `parse_json` reads a report again.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.render import words
    from memguard.report.render.html.page import render_html, render_reports_html
    from memguard.report.render.json import parse_json, render_json
    from memguard.report.render.text import WIDTH, render_text
    from memguard.report.render.words import VERDICTS, Locations, capital, number, printable, rate

__all__ = [
    "VERDICTS",
    "WIDTH",
    "Locations",
    "capital",
    "number",
    "parse_json",
    "printable",
    "rate",
    "render_html",
    "render_json",
    "render_reports_html",
    "render_text",
    "words",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.render": "words",
            "memguard.report.render.html.page": "render_html render_reports_html",
            "memguard.report.render.json": "parse_json render_json",
            "memguard.report.render.text": "WIDTH render_text",
            "memguard.report.render.words": "Locations VERDICTS capital number printable rate",
        },
    )
