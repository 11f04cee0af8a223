"""
The one place that knows how a process of Celery's prefork pool waits for its next task.

billiard asks ``wait_for_job`` for each; between two calls the result of the last task has been sent
and the next one has not been taken, and it is there that a process ends which has reached
``max_tasks_per_child`` or ``max_memory_per_child``, by the same way out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_RECYCLED = 0x9B
"""``billiard.pool.EX_RECYCLE``: the exit status of a process that is to be replaced."""


def pool_process() -> Any | None:
    """Return billiard's worker of this process, or None where this is none of its prefork pool."""
    try:
        from billiard import current_process  # noqa: PLC0415 - reason: only inside Celery
    except ImportError:
        return None
    worker = getattr(current_process(), "_target", None)
    return worker if callable(getattr(worker, "wait_for_job", None)) else None


def end_between_tasks(worker: Any, wants_to: Callable[[], bool]) -> None:
    """
    Have *worker* end, before it takes its next task, as soon as *wants_to* says so.

    Call it in ``worker_process_init``: afterwards billiard has its own reference.
    """
    wait = worker.wait_for_job

    def wait_or_end(*arguments: Any, **options: Any) -> Any:
        if wants_to():
            sys.exit(_RECYCLED)  # billiard's own, while a worker runs: it notes the status
        return wait(*arguments, **options)

    worker.wait_for_job = wait_or_end
