"""
Logs that cannot fill memory: values and tracebacks are cut to size before they become text.

`bounded_event` is for structlog, `BoundedFilter` and `BoundedFormatter` are for `logging`.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.integrations.logging.stdlib import BoundedFilter as BoundedFilter
    from memguard.integrations.logging.stdlib import BoundedFormatter as BoundedFormatter
    from memguard.integrations.logging.structlog import BoundedEvent as BoundedEvent
    from memguard.integrations.logging.structlog import bounded_event as bounded_event
    from memguard.integrations.logging.traceback import bounded_traceback as bounded_traceback
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.integrations.logging.stdlib": "BoundedFilter BoundedFormatter",
            "memguard.integrations.logging.structlog": "BoundedEvent bounded_event",
            "memguard.integrations.logging.traceback": "bounded_traceback",
        },
    )
