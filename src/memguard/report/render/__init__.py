"""
A leak report as text, HTML and JSON.

Each form has a function of its own; `parse_json` reads a report again.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.render import words as words
    from memguard.report.render.content import stack_shown as stack_shown
    from memguard.report.render.html.page import render_html as render_html
    from memguard.report.render.html.page import render_reports_html as render_reports_html
    from memguard.report.render.json import parse_json as parse_json
    from memguard.report.render.json import render_json as render_json
    from memguard.report.render.text import WIDTH as WIDTH
    from memguard.report.render.text import render_text as render_text
    from memguard.report.render.words import VERDICTS as VERDICTS
    from memguard.report.render.words import Locations as Locations
    from memguard.report.render.words import capital as capital
    from memguard.report.render.words import number as number
    from memguard.report.render.words import printable as printable
    from memguard.report.render.words import rate as rate
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.render": "words",
            "memguard.report.render.content": "stack_shown",
            "memguard.report.render.html.page": "render_html render_reports_html",
            "memguard.report.render.json": "parse_json render_json",
            "memguard.report.render.text": "WIDTH render_text",
            "memguard.report.render.words": "Locations VERDICTS capital number printable rate",
        },
    )
