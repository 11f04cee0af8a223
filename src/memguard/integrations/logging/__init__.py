"""
Logs that cannot fill memory: values and tracebacks are cut to size before they become text.

`bounded_event` is for structlog, `BoundedFilter` and `BoundedFormatter` are for `logging`.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.integrations.logging.stdlib import BoundedFilter, BoundedFormatter
    from memguard.integrations.logging.structlog import BoundedEvent, bounded_event
    from memguard.integrations.logging.traceback import bounded_traceback

__all__ = [
    "BoundedEvent",
    "BoundedFilter",
    "BoundedFormatter",
    "bounded_event",
    "bounded_traceback",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.integrations.logging.stdlib": "BoundedFilter BoundedFormatter",
            "memguard.integrations.logging.structlog": "BoundedEvent bounded_event",
            "memguard.integrations.logging.traceback": "bounded_traceback",
        },
    )
