"""
REPORT: leak reports and the state of a guard as text, HTML, JSON, files, metrics and alerts.

`guard_state` gathers what a guard knows, once for all who show it.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.state import GuardState as GuardState
    from memguard.report.state import guard_state as guard_state
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.state": "GuardState guard_state",
        },
    )
