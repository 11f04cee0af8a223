"""
Two leak reports side by side: which rates fell, which rose, what is new.

`compare` finds the changes, the two other functions render them.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.compare.comparison import Change, Comparison, compare
    from memguard.report.compare.rendering import render_html, render_text

__all__ = [
    "Change",
    "Comparison",
    "compare",
    "render_html",
    "render_text",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.compare.comparison": "Change Comparison compare",
            "memguard.report.compare.rendering": "render_html render_text",
        },
    )
