"""
Two leak reports side by side: which rates fell, which rose, what is new.

`compare` finds the changes, the two other functions render them.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.compare.comparison import Change as Change
    from memguard.report.compare.comparison import Comparison as Comparison
    from memguard.report.compare.comparison import compare as compare
    from memguard.report.compare.rendering import render_html as render_html
    from memguard.report.compare.rendering import render_text as render_text
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.compare.comparison": "Change Comparison compare",
            "memguard.report.compare.rendering": "render_html render_text",
        },
    )
