"""
The live page: one document that also works without JavaScript.

Pure: from a state to HTML.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.health.page.assets import page_policy as page_policy
    from memguard.report.health.page.curve import SPANS as SPANS
    from memguard.report.health.page.curve import SpanName as SpanName
    from memguard.report.health.page.curve import memory_history as memory_history
    from memguard.report.health.page.document import LastRun as LastRun
    from memguard.report.health.page.document import Parts as Parts
    from memguard.report.health.page.document import notice_page as notice_page
    from memguard.report.health.page.document import render_document as render_document
    from memguard.report.health.page.document import render_parts as render_parts
else:
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
