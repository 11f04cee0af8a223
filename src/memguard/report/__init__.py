"""
REPORT: leak reports and the state of a guard as text, HTML, JSON, files, metrics and alerts.

`guard_state` gathers what a guard knows, once for all who show it.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.state import GuardState, guard_state

__all__ = [
    "GuardState",
    "guard_state",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.state": "GuardState guard_state",
        },
    )
