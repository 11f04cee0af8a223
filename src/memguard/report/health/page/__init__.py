"""
The live page: one document that also works without JavaScript.

Pure: from a state to HTML.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.health.page.assets import page_policy
    from memguard.report.health.page.curve import SPANS, SpanName, memory_history
    from memguard.report.health.page.document import (
        LastRun,
        Parts,
        notice_page,
        render_document,
        render_parts,
    )

__all__ = [
    "SPANS",
    "LastRun",
    "Parts",
    "SpanName",
    "memory_history",
    "notice_page",
    "page_policy",
    "render_document",
    "render_parts",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.health.page.assets": "page_policy",
            "memguard.report.health.page.curve": "SPANS SpanName memory_history",
            "memguard.report.health.page.document": (
                "LastRun Parts notice_page render_document render_parts"
            ),
        },
    )
